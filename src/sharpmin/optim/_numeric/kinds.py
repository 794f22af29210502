"""Kinds of tensors, and views of them: as dense real numbers, in float32 at least, in pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from operator import attrgetter
from typing import Any, TypeGuard

import torch
from torch import Tensor

from .shards import is_sharded

PIECE = 65_536
"""Entries of a tensor on the CPU that are added up in one sum."""

LOW = {torch.float16, torch.bfloat16}
_PLAIN = {Tensor, torch.nn.Parameter}
_is_cpu, _dtype = attrgetter("is_cpu"), attrgetter("dtype")
_kind = attrgetter("dtype", "layout", "is_cpu")


class Fixed(list[Tensor]):
    """An unchanging list of tensors of one step, whose kind is computed once.

    >>> Fixed([torch.ones(2), torch.ones(3)]).kind
    (torch.float32, True)
    """

    @cached_property
    def kind(self) -> tuple[torch.dtype, bool] | None:
        """See `kind_of`."""
        return _one_kind(self)


def kind_of(tensors: Sequence[Tensor]) -> tuple[torch.dtype, bool] | None:
    """(dtype, on the host) if these are the same for all and all are plain dense; None otherwise, or for no tensors."""
    return tensors.kind if isinstance(tensors, Fixed) else _one_kind(tensors)


def _one_kind(tensors: Sequence[Tensor]) -> tuple[torch.dtype, bool] | None:
    kinds: set[Any] = set(map(_kind, tensors))
    if len(kinds) != 1 or tensors[0].layout is not torch.strided or not _have_plain_types(tensors):
        return None
    return tensors[0].dtype, tensors[0].is_cpu


def on_host(tensors: Iterable[Tensor]) -> bool:
    """Whether reading a value of these tensors costs no device synchronization."""
    known = tensors.kind if isinstance(tensors, Fixed) else None
    return all(map(_is_cpu, tensors)) if known is None else known[1]


def are_plain(tensors: Sequence[Tensor]) -> bool:
    """Whether none is a subclass with its own operations, such as int8 weights, which support few and round when written."""
    return (isinstance(tensors, Fixed) and tensors.kind is not None) or _have_plain_types(tensors)


def _have_plain_types(tensors: Iterable[Tensor]) -> bool:
    kinds: set[Any] = set(map(type, tensors))
    return _PLAIN.issuperset(kinds) or all(kind.__torch_dispatch__ == Tensor.__torch_dispatch__ for kind in kinds)


def all_tensors(values: Sequence[Any]) -> TypeGuard[Sequence[Tensor]]:
    """Whether all values are tensors."""
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
    """`t` as a dense tensor."""
    return t.to_dense() if t.is_sparse else t


def plain(t: Tensor) -> Tensor:
    """The values of a tensor subclass, such as int8 weights, as a plain tensor."""
    if is_sharded(t) or are_plain([t]):
        return t
    return torch.zeros(t.shape, dtype=t.dtype, device=t.device).copy_(t)


def entries(t: Tensor) -> Tensor:
    """The stored numbers of a dense, sparse or complex tensor, as a dense real one."""
    if t.is_sparse:
        t = t.coalesce().values()
    return torch.view_as_real(t.resolve_conj()) if t.is_complex() else t


def pieces(t: Tensor) -> Iterator[Tensor]:
    """The stored numbers in pieces of at most `PIECE`; on an accelerator, which sums in a tree, in one piece."""
    line = entries(t).reshape(-1)
    for piece in torch.split(line, PIECE) if line.is_cpu else [line]:
        yield piece.contiguous()  # a strided norm would be summed naively
