"""The gradients of an optimizer's parameters: reading, setting, accumulating and keeping them."""

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
    """Set these gradients and clear all others."""
    for group in groups:
        for p in group["params"]:
            p.grad = None
    for p, grad in pairs:
        p.grad = grad


def accumulate(earlier: Pairs | None, new: Pairs) -> Pairs:
    """Add the gradients of one more micro-batch to the accumulated ones; dense ones in place."""
    if not earlier:
        return new
    total = dict(earlier)
    for p, g in new:
        total[p] = total[p].add_(g) if p in total and not total[p].is_sparse else total[p] + g if p in total else g
    return list(total.items())


def kept(pairs: Pairs) -> Pairs:
    """The gradients, in memory that the second pass will not overwrite.

    A gradient with its own memory is kept as it is, since the second pass allocates another. One that shares memory with a
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
    if g.is_sparse or type(g) is not Tensor:  # every backward pass allocates a new shard
        return False
    return g._is_view() or _owners(g) > _ALONE


def _owners(t: Tensor) -> int:
    """How many references the memory of `t` has, this call included."""
    count: Any = getattr(torch._C, "_storage_Use_Count", None)
    return _ALONE if count is None else int(count(t.untyped_storage()._cdata))


_ALONE = 0  # until it has been asked
_ALONE = _owners(torch.zeros(1, device="cpu"))


def all_zero(pairs: Pairs | None) -> bool:
    """Whether all gradients are zero, as after `zero_grad(set_to_none=False)`; False on a device, which is not read."""
    own = [g for _, g in pairs or []]
    return on_host(own) and sum_of_squares(own) == 0


def have_graph(pairs: Pairs) -> bool:
    """Whether `backward(create_graph=True)` made one of these gradients."""
    return any(map(_has_graph, map(_gradient, pairs)))


def poison_with_nan(first: Pairs, norm: Any) -> Pairs:
    """NaN gradients to add before DDP reduces, so that every rank learns that this rank's first gradient was not finite.

    All are NaN if the host knows the norm; if only the device does, the smallest gradient is 0 or NaN there.
    """
    dense = [(p, g) for p, g in first if not g.is_sparse]
    if not isinstance(norm, Tensor):
        return [(p, torch.full_like(g, torch.nan)) for p, g in dense]
    return [(p, torch.zeros_like(g) + (norm * 0).to(g)) for p, g in sorted(dense, key=lambda pair: pair[1].numel())[:1]]
