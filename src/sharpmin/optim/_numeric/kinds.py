"""What kind of tensor it is, and how it is seen: as dense real numbers, in float32 at least, in pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from operator import attrgetter
from typing import Any, TypeGuard

import torch
from torch import Tensor

from .shards import is_sharded

PIECE = 65_536
"""So many entries of a tensor on the CPU are added up in one sum."""

LOW = {torch.float16, torch.bfloat16}
_PLAIN = {Tensor, torch.nn.Parameter}
_is_cpu, _dtype = attrgetter("is_cpu"), attrgetter("dtype")
_kind = attrgetter("dtype", "layout", "is_cpu")


class Fixed(list[Tensor]):
    """Tensors in a list that lives for one step and that nobody changes: what kind they are of is asked once.

    >>> Fixed([torch.ones(2), torch.ones(3)]).kind
    (torch.float32, True)
    """

    @cached_property
    def kind(self) -> tuple[torch.dtype, bool] | None:
        """See `kind_of`."""
        return _one_kind(self)


def kind_of(tensors: Sequence[Tensor]) -> tuple[torch.dtype, bool] | None:
    """Their dtype, and whether they are on the host, if both are the same for all; None if one is odd, or there is none."""
    return tensors.kind if isinstance(tensors, Fixed) else _one_kind(tensors)


def _one_kind(tensors: Sequence[Tensor]) -> tuple[torch.dtype, bool] | None:
    kinds: set[Any] = set(map(_kind, tensors))
    if len(kinds) != 1 or tensors[0].layout is not torch.strided or not _have_plain_types(tensors):
        return None
    return tensors[0].dtype, tensors[0].is_cpu


def on_host(tensors: Iterable[Tensor]) -> bool:
    """Whether reading a value of these tensors costs no device synchronisation."""
    known = tensors.kind if isinstance(tensors, Fixed) else None
    return all(map(_is_cpu, tensors)) if known is None else known[1]


def are_plain(tensors: Sequence[Tensor]) -> bool:
    """Whether none has operations of its own, as int8 weights do: those may have few, and round what is written."""
    return (isinstance(tensors, Fixed) and tensors.kind is not None) or _have_plain_types(tensors)


def _have_plain_types(tensors: Iterable[Tensor]) -> bool:
    kinds: set[Any] = set(map(type, tensors))
    return _PLAIN.issuperset(kinds) or all(kind.__torch_dispatch__ == Tensor.__torch_dispatch__ for kind in kinds)


def all_tensors(values: Sequence[Any]) -> TypeGuard[Sequence[Tensor]]:
    """Whether none of these is a number of the host."""
    return all(isinstance(value, Tensor) for value in values)


def is_low_precision(t: Tensor) -> bool:
    """Whether `t` is float16 or bfloat16."""
    return t.dtype in LOW


def any_low_precision(tensors: Iterable[Tensor]) -> bool:
    """Whether one of them is float16 or bfloat16."""
    known = tensors.kind if isinstance(tensors, Fixed) else None
    return not LOW.isdisjoint(map(_dtype, tensors)) if known is None else known[0] in LOW


def at_least_float32(t: Tensor) -> Tensor:
    """`t` in float32 if its dtype is float16 or bfloat16, else `t` itself."""
    return t.float() if is_low_precision(t) else t


def dense(t: Tensor) -> Tensor:
    """`t` without its sparse layout."""
    return t.to_dense() if t.is_sparse else t


def plain(t: Tensor) -> Tensor:
    """The values of a tensor that has operations of its own, such as int8 weights, as a plain one."""
    if is_sharded(t) or are_plain([t]):
        return t
    return torch.zeros(t.shape, dtype=t.dtype, device=t.device).copy_(t)


def entries(t: Tensor) -> Tensor:
    """The stored numbers of a dense, sparse or complex tensor, as a dense real one."""
    if t.is_sparse:
        t = t.coalesce().values()
    return torch.view_as_real(t.resolve_conj()) if t.is_complex() else t


def pieces(t: Tensor) -> Iterator[Tensor]:
    """The stored numbers in runs of at most `PIECE`; an accelerator, which adds up in a tree, sees all at once."""
    line = entries(t).reshape(-1)
    for piece in torch.split(line, PIECE) if line.is_cpu else [line]:
        yield piece.contiguous()  # with a stride the norm would be added up naively
