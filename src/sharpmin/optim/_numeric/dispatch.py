"""Chooses the implementation: `foreach.py` for dense real tensors of one dtype and device, else `loops.py`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

from torch import Tensor

from . import foreach, loops
from .kinds import are_plain

Lists = list[list[Tensor]]


def by_kind(*lists: Sequence[Tensor], copies: bool = False) -> Iterator[tuple[ModuleType, Lists, Sequence[int] | None]]:
    """Split parallel lists by kind: for each kind its implementation, its lists, and their rows (None: all rows).

    With `copies`, dtypes without arithmetic are served, too.
    """
    serves = foreach.copies if copies else foreach.serves
    if serves(*lists):
        yield foreach, [tensors if isinstance(tensors, list) else list(tensors) for tensors in lists], None
        return
    kinds: dict[Any, list[int]] = {}
    for i, row in enumerate(zip(*lists, strict=True)):
        kinds.setdefault(tuple((t.dtype, t.layout, t.device, are_plain([t])) for t in row), []).append(i)
    for rows in kinds.values():
        own = [[tensors[i] for i in rows] for tensors in lists]
        yield (foreach if serves(*own) else loops), own, None if len(kinds) == 1 else rows


def each(name: str, lists: Sequence[Sequence[Tensor]], *arguments: Any, copies: bool = False) -> list[Tensor]:
    """Apply the function of that name to the lists, kind by kind; the results in the order of the rows."""
    out: list[Any] = [None] * len(lists[0])
    for module, own, rows in by_kind(*lists, copies=copies):
        made = getattr(module, name)(*own, *arguments)
        if rows is None:
            return list(made)
        for i, t in zip(rows, made, strict=True):
            out[i] = t
    return out


def parts(*lists: Sequence[Tensor], whole: bool = False) -> Iterator[Lists]:
    """Split parallel lists into parts of one kind that fit the scratch memory.

    A tensor that is larger than that comes in flat pieces, unless it must stay `whole`.

    >>> import torch
    >>> [len(part[0]) for part in parts([torch.ones(2), torch.ones(3), torch.ones(1, dtype=torch.float64)])]
    [2, 1]
    """
    for module, own, _ in by_kind(*lists):
        yield from foreach.parts(*own, whole=whole) if module is foreach else [own]
