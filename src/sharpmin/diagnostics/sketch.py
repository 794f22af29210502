"""A gradient in 256 numbers: a signed count sketch, whose inner products are those of the gradients on average.

All entries of all parameters stand in one line, in parameter order. Entry i goes to bucket `i mod 256` with a random sign;
entries that share a bucket cancel on average, so `<sketch(a), sketch(b)>` has the mean `<a, b>` and a standard deviation of
about `||a|| ||b|| / 16`. Signs depend on the seed and on i alone: a shard that knows where it begins adds up with the others.
The line is cut into chunks, which are signed and added up entry by entry in one that stays in the cache, and that is folded
into the buckets at the end: one read of the gradient.
Source: Charikar, Chen & Farach-Colton, Finding Frequent Items in Data Streams, ICALP 2002.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from sharpmin.optim.shards import any_sharded, over_shards, run_of

BUCKETS = 256
_CHUNK = 128 * BUCKETS  # entries signed by one window into the sequence of signs
_OFFSETS = 32_768
_SMALL = 16_384


def places(sizes: Sequence[int]) -> list[int]:
    """Where each parameter begins in the line.

    >>> places([10, 20_000, 5])
    [0, 10, 20010]
    """
    return list(accumulate(sizes, initial=0))[:-1]


class Sketch:
    """The linear map; a third of a megabyte for its sequence of signs, and no memory per parameter.

    Args:
        seed: chooses the signs.

    >>> sketch, a, b = Sketch(), torch.ones(1000), torch.arange(1000.0)
    >>> torch.allclose(sketch([a]) + 2 * sketch([b]), sketch([a + 2 * b]))
    True
    >>> torch.allclose(sketch([a[:300]], starts=[0]) + sketch([a[300:]], starts=[300]), sketch([a]))
    True
    >>> torch.equal(sketch([a], minus=[b]), sketch([a - b]))
    True
    """

    def __init__(self, seed: int = 0):
        self._seed = seed
        generator = torch.Generator().manual_seed(seed)
        self._signs = torch.randint(0, 2, (_OFFSETS + _CHUNK,), generator=generator, dtype=torch.int8) * 2 - 1
        self._windows: dict[int, tuple[int, int]] = {}
        self._cast: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def __call__(
        self, tensors: Sequence[Tensor], *, minus: Sequence[Tensor] | None = None, starts: Sequence[int] | None = None
    ) -> Tensor:
        """The sketch of dense tensors, shape (256,), float64; of DTensors the same on every rank, by one reduction.

        Args:
            tensors: the parts of the vector.
            minus: what is taken from them first, without a difference in memory.
            starts: where they begin in the line, by default one after the other.
        """
        starts = places([t.numel() for t in tensors]) if starts is None else starts
        lists = [tensors] if minus is None else [tensors, minus]
        if not any_sharded(tensors):
            return self._plain(starts, *lists)
        rows = [run_of(*row) for row in zip(starts, *lists, strict=True)]
        found: Tensor = over_shards(lambda parts, at, *rest: self._plain(at, parts, *rest), _columns(rows))
        return found

    def _plain(self, starts: Sequence[int], *lists: Sequence[Tensor]) -> Tensor:
        if not lists[0]:
            return torch.zeros(BUCKETS, dtype=torch.float64)
        sums: dict[tuple[torch.dtype, torch.device], Tensor] = {}
        for start, lines in _runs(starts, lists):
            key = (lines[0].dtype, lines[0].device)
            if key not in sums:
                sums[key] = torch.zeros(_CHUNK, dtype=key[0], device=key[1])
            self._add(sums[key], start, lines)
        device = lists[0][0].device
        folded = [total.view(-1, BUCKETS).double().sum(0).to(device) for total in sums.values()]
        return torch.stack(folded).sum(0) if folded else torch.zeros(BUCKETS, dtype=torch.float64, device=device)

    def _add(self, total: Tensor, start: int, lines: Sequence[Tensor]) -> None:
        """Add one stretch of entries."""
        at, size = 0, lines[0].numel()
        while at < size:
            chunk, within = divmod(start + at, _CHUNK)
            end = min(at + _CHUNK - within, size)
            parts = [line[at:end] for line in lines]
            part = parts[0] if len(parts) == 1 else parts[0] - parts[1]
            signs, turn = self._of(chunk, part)
            total[within : within + end - at].addcmul_(part, signs[within : within + end - at], value=turn)
            at = end

    def _of(self, chunk: int, like: Tensor) -> tuple[Tensor, int]:
        """The signs of a chunk: a window, and a sign for all of it."""
        if chunk not in self._windows:
            draw = random.Random(f"{self._seed}:{chunk}")  # no secret
            self._windows[chunk] = draw.randrange(_OFFSETS), draw.choice((-1, 1))
        offset, turn = self._windows[chunk]
        key = (like.dtype, like.device)
        if key not in self._cast:
            self._cast[key] = self._signs.to(like.device, like.dtype)
        return self._cast[key][offset : offset + _CHUNK], turn


def _runs(starts: Sequence[int], lists: Sequence[Sequence[Tensor]]) -> Iterator[tuple[int, Sequence[Tensor]]]:
    """Stretches of the line: small neighbours together, everything else alone."""
    run: list[Sequence[Tensor]] = []
    begin = end = 0
    for start, *row in zip(starts, *lists, strict=True):
        size = row[0].numel()
        if run and (start != end or size >= _SMALL or (row[0].dtype, row[0].device) != (run[0][0].dtype, run[0][0].device)):
            yield begin, _joined(run)
            run = []
        if size >= _SMALL:
            yield start, list(map(_line, row))
        elif size:
            begin = begin if run else start
            run.append(row)
            end = start + size
    if run:
        yield begin, _joined(run)


def _joined(rows: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    return [torch.cat(list(map(_line, column))) for column in zip(*rows, strict=True)]


def _columns(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _line(t: Tensor) -> Tensor:
    """The entries one after the other, real, in float32 at least."""
    t = t.detach()
    t = torch.view_as_real(t.resolve_conj()) if t.is_complex() else t
    return t.float().reshape(-1) if t.dtype in (torch.float16, torch.bfloat16) else t.reshape(-1)
