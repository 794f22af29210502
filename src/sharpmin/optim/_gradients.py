"""The gradients of an optimizer's parameters: read, put, added up, and kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from operator import attrgetter, itemgetter
from typing import Any

import torch
from torch import Tensor

from ._numeric.kinds import on_host
from ._numeric.sums import sum_of_squares

Pairs = list[tuple[Tensor, Tensor]]
"""Parameters, each with a tensor of its shape: its gradient, or its w."""

Groups = Iterable[Mapping[str, Any]]
_has_graph, _gradient = attrgetter("requires_grad"), itemgetter(1)


def parameters_of(groups: Groups) -> Iterator[Tensor]:
    """Every parameter of the groups."""
    return (p for group in groups for p in group["params"])


def gradients_of(groups: Groups) -> Pairs:
    """Every parameter that has a gradient, with it."""
    return [(p, grad) for group in groups for p in group["params"] if (grad := p.grad) is not None]


def put(groups: Groups, pairs: Pairs) -> None:
    """These gradients and no others."""
    for group in groups:
        for p in group["params"]:
            p.grad = None
    for p, grad in pairs:
        p.grad = grad


def accumulate(earlier: Pairs | None, new: Pairs) -> Pairs:
    """The gradients of earlier micro-batches with those of one more; what is dense is added in place."""
    if not earlier:
        return new
    total = dict(earlier)
    for p, g in new:
        total[p] = total[p].add_(g) if p in total and not total[p].is_sparse else total[p] + g if p in total else g
    return list(total.items())


def kept(pairs: Pairs) -> Pairs:
    """The gradients, in memory that nobody else writes to while a second pass makes new ones.

    A gradient in memory of its own is kept as it is, since the second pass makes another. One that shares memory belongs to a
    buffer, such as DistributedDataParallel's with `gradient_as_bucket_view=True`, and a hook on the finished gradient may
    have moved it into one: those are copied.

    >>> line = torch.zeros(4)
    >>> own, view = torch.ones(2), line[:2]
    >>> a, b = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    >>> [t is g for (_, t), g in zip(kept([(a, own), (b, view)]), (own, view))]
    [True, False]
    """
    return [(p, g.clone() if _belongs_to_somebody(p, g) else g) for p, g in pairs]


def _belongs_to_somebody(p: Tensor, g: Tensor) -> bool:
    if getattr(p, "_post_accumulate_grad_hooks", None):
        return True
    if g.is_sparse or type(g) is not Tensor:  # a shard is made anew by every backward pass
        return False
    return g._is_view() or _owners(g) > _ALONE


def _owners(t: Tensor) -> int:
    """How many hold the memory of `t`, counting the question itself."""
    count: Any = getattr(torch._C, "_storage_Use_Count", None)
    return _ALONE if count is None else int(count(t.untyped_storage()._cdata))


_ALONE = 0  # until it has been asked
_ALONE = _owners(torch.zeros(1, device="cpu"))


def all_zero(pairs: Pairs | None) -> bool:
    """Whether gradients are all zero, as they are at the start of a step that zeroed them in place; False on a device."""
    own = [g for _, g in pairs or []]
    return on_host(own) and sum_of_squares(own) == 0


def have_graph(pairs: Pairs) -> bool:
    """Whether `backward(create_graph=True)` made one of these gradients."""
    return any(map(_has_graph, map(_gradient, pairs)))


def poison_with_nan(first: Pairs, norm: Any) -> Pairs:
    """What to accumulate onto so that every rank sees a first gradient of this one that is not finite.

    All nan where that is known; where only the device knows the norm, 0 or nan in the smallest gradient.
    """
    dense = [(p, g) for p, g in first if not g.is_sparse]
    if not isinstance(norm, Tensor):
        return [(p, torch.full_like(g, torch.nan)) for p, g in dense]
    return [(p, torch.zeros_like(g) + (norm * 0).to(g)) for p, g in sorted(dense, key=lambda pair: pair[1].numel())[:1]]
