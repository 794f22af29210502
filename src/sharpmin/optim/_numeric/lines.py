"""Scratch memory: flat tensors ("lines") on a device, with views shaped like the tensors of a list.

A list is copied into its views by one call, and arithmetic on the line is one call, too. The views are kept from step to
step, since making them takes a call for each tensor; their memory is released in between.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter, methodcaller
from typing import Any

import torch
from torch import Tensor

SCRATCH = 64 * 2**20
"""Most bytes of scratch memory, besides the copy of the weights."""

_kind, _strides = attrgetter("shape", "device"), methodcaller("stride")
_MOST = 32  # layouts whose views are kept


@dataclass(frozen=True)
class LineViews:
    """A part of a line, and its views."""

    flat: Tensor
    views: list[Tensor]


class Lines:
    """The lines of one optimizer; copies and pickles are empty.

    >>> tensors = [torch.ones(2, 2), torch.ones(3)]
    >>> for rows, (line,) in Lines().like(tensors, torch.float32, 1):
    ...     _ = torch._foreach_copy_(line.views, tensors[rows])
    ...     print(rows, line.flat.sum().item())
    slice(0, 2, None) 7.0
    """

    def __init__(self) -> None:
        self._flats: dict[Any, list[Tensor]] = {}
        self._cut: dict[Any, list[tuple[slice, list[LineViews]]]] = {}

    def like(self, tensors: Sequence[Tensor], dtype: torch.dtype, count: int) -> Iterator[tuple[slice, list[LineViews]]]:
        """For each run of tensors that fits: its indices, and `count` lines with views like them, overwritten by the next run.

        Args:
            tensors: dense ones on one device, none of more than `room(dtype, count)` entries.
            dtype: of the lines.
            count: how many.
        """
        key = (dtype, count, tuple(map(_kind, tensors)), tuple(map(_strides, tensors)))
        if key not in self._cut:
            sizes = list(map(Tensor.numel, tensors))
            stretches = list(runs(sizes, room(dtype, count)))
            flats = self._reach(dtype, tensors[0].device, max(sum(sizes[rows]) for rows in stretches), count)
            self._cut[key] = [(rows, [_line(flat, tensors[rows]) for flat in flats]) for rows in stretches]
        self._fill(dtype, tensors[0].device)
        return iter(self._cut[key])

    def _fill(self, dtype: torch.dtype, device: torch.device) -> None:
        """Allocate the memory of released lines."""
        for flat in self._flats[dtype, device]:
            if not flat.untyped_storage().nbytes():
                flat.untyped_storage().resize_(flat.nbytes)

    def release(self) -> None:
        """Free the memory; the views are kept, and get memory again on the next use."""
        for flats in self._flats.values():
            for flat in flats:
                flat.untyped_storage().resize_(0)

    def _reach(self, dtype: torch.dtype, device: torch.device, size: int, count: int) -> list[Tensor]:
        """`count` flat tensors of at least `size` entries; views of shorter ones are dropped."""
        key = (dtype, device)
        flats = self._flats.get(key, [])
        if len(flats) < count or flats[0].numel() < size or len(self._cut) >= _MOST:
            self._cut.clear()
            with torch.inference_mode(False):
                most = max(size, flats[0].numel() if flats and len(flats) >= count else 0)
                flats = self._flats[key] = [torch.empty(most, dtype=dtype, device=device) for _ in range(count)]
        self._fill(dtype, device)
        return flats[:count]

    def __getstate__(self) -> dict[str, Any]:
        return {"_flats": {}, "_cut": {}}


def _line(flat: Tensor, tensors: Sequence[Tensor]) -> LineViews:
    """Views like these tensors into the beginning of a flat tensor."""
    at, views = 0, []
    for t in tensors:
        own, at = flat[at : at + t.numel()], at + t.numel()
        views.append(own.as_strided(t.shape, t.stride()) if _is_dense(t) else own.view(t.shape))
    return LineViews(flat[:at], views)


def room(dtype: torch.dtype, count: int) -> int:
    """The most entries that each of `count` lines may have."""
    return SCRATCH // (count * dtype.itemsize)


def runs(sizes: Sequence[int], most: int) -> Iterator[slice]:
    """Slices of neighbors with at most `most` entries together, or of one with more.

    >>> list(runs([3, 4, 9, 1], 8))
    [slice(0, 2, None), slice(2, 3, None), slice(3, 4, None)]
    """
    if sum(sizes) <= most:
        yield slice(0, len(sizes))
        return
    begin, total = 0, 0
    for i, size in enumerate(sizes):
        if i > begin and total + size > most:
            yield slice(begin, i)
            begin, total = i, 0
        total += size
    yield slice(begin, len(sizes))


def cut(most: int, *lists: Sequence[Tensor]) -> list[list[Tensor]]:
    """Parallel lists with tensors of more than `most` entries cut into pieces, in memory order.

    A tensor stays whole if its memory has gaps, or its strides differ from those in the other lists.

    >>> a, b = cut(3, [torch.arange(4.0).view(2, 2)], [torch.zeros(2, 2)])
    >>> a, len(b)
    ([tensor([0., 1., 2.]), tensor([3.])], 2)
    """
    if all(t.numel() <= most for t in lists[0]):
        return [list(ts) for ts in lists]
    out: list[list[Tensor]] = [[] for _ in lists]
    for row in zip(*lists, strict=True):
        first = row[0]
        big = first.numel() > most and all(_is_dense(t) and t.stride() == first.stride() for t in row)
        for own, t in zip(out, row, strict=True):
            own.extend(torch.split(t.detach().as_strided((t.numel(),), (1,)), most) if big else [t])
    return out


def _is_dense(t: Tensor) -> bool:
    """Whether the memory of `t` has neither gaps nor overlaps."""
    steps = sorted((stride, size) for stride, size in zip(t.stride(), t.shape, strict=True) if size > 1)
    expected = 1
    for stride, size in steps:
        if stride != expected:
            return False
        expected *= size
    return True
