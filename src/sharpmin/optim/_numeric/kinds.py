"""What kind of tensor it is, and how it is seen: as dense real numbers, in float32 at least, in pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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


def on_host(tensors: Iterable[Tensor]) -> bool:
    """Whether reading a value of these tensors costs no device synchronisation."""
    return all(map(_is_cpu, tensors))


def are_plain(tensors: Sequence[Tensor]) -> bool:
    """Whether none has operations of its own, as int8 weights do: those may have few, and round what is written."""
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
    return not LOW.isdisjoint(map(_dtype, tensors))


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
