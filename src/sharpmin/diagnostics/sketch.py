"""A gradient in 256 numbers: a signed count sketch, whose inner products are those of the gradients on average.

All entries of all parameters stand in one line, in parameter order. Entry i goes to bucket `i mod 256` with a random sign;
entries that share a bucket cancel on average, so `<sketch(a), sketch(b)>` has the mean `<a, b>` and a standard deviation of
about `||a|| ||b|| / 16`. Signs depend on the seed and on i alone: a shard that knows where it begins adds up with the others.
Source: Charikar, Chen & Farach-Colton, Finding Frequent Items in Data Streams, ICALP 2002.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

BUCKETS = 256
_CHUNK = 256 * BUCKETS  # entries signed by one window into the sequence of signs
_OFFSETS = 65_536
_SMALL = 16_384


def places(sizes: Sequence[int]) -> list[int]:
    """Where each parameter begins in the line; big ones at a full row, so that they need no copy.

    >>> places([10, 10, 20_000, 5])
    [0, 10, 256, 20256]
    """
    out, at = [], 0
    for size in sizes:
        at = at if size < _SMALL else -(-at // BUCKETS) * BUCKETS
        out.append(at)
        at += size
    return out


class Sketch:
    """The linear map; half a megabyte for its sequence of signs, and no memory per parameter.

    Args:
        seed: chooses the signs.

    >>> sketch, a, b = Sketch(), torch.ones(1000), torch.arange(1000.0)
    >>> torch.allclose(sketch([a]) + 2 * sketch([b]), sketch([a + 2 * b]))
    True
    >>> torch.allclose(sketch([a[:300]], [0]) + sketch([a[300:]], [300]), sketch([a]))
    True
    """

    def __init__(self, seed: int = 0):
        self._seed = seed
        generator = torch.Generator().manual_seed(seed)
        self._signs = torch.randint(0, 2, (_OFFSETS + _CHUNK,), generator=generator, dtype=torch.int8) * 2 - 1
        self._windows: dict[int, tuple[int, int]] = {}
        self._cast: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def __call__(self, tensors: Sequence[Tensor], starts: Sequence[int] | None = None) -> Tensor:
        """The sketch of dense tensors, shape (256,), float64; `starts` are the places of shards, by default `places`."""
        if not tensors:
            return torch.zeros(BUCKETS, dtype=torch.float64)
        starts = places([t.numel() for t in tensors]) if starts is None else starts
        total = torch.zeros(BUCKETS, dtype=torch.float64, device=tensors[0].device)
        for start, flat in _runs(tensors, starts):
            self._add(total, flat, start)
        return total

    def _add(self, total: Tensor, flat: Tensor, start: int) -> None:
        """Add one stretch of entries."""
        at = 0
        while at < flat.numel():
            chunk, within = divmod(start + at, _CHUNK)
            part = flat[at : at + _CHUNK - within]
            signs, turn = self._of(chunk, part)
            signs = signs[within : within + len(part)]
            head = min(-within % BUCKETS, len(part))  # up to the next full row
            body = (len(part) - head) // BUCKETS * BUCKETS
            for low, high in ((0, head), (head + body, len(part))):
                column = (within + low) % BUCKETS
                if high > low:
                    total[column : column + high - low] += part[low:high] * signs[low:high] * turn
            if body:
                rows = part[head : head + body].view(-1, BUCKETS) * signs[head : head + body].view(-1, BUCKETS)
                total += rows.sum(0) * turn
            at += len(part)

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


def _runs(tensors: Sequence[Tensor], starts: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
    """Stretches of the line: small neighbours together, everything else alone."""
    run: list[Tensor] = []
    begin = end = 0
    for t, start in zip(map(_line, tensors), starts, strict=True):
        if run and (start != end or t.numel() >= _SMALL or (t.dtype, t.device) != (run[0].dtype, run[0].device)):
            yield begin, torch.cat(run)
            run = []
        if t.numel() >= _SMALL:
            yield start, t
        elif t.numel():
            begin = begin if run else start
            run.append(t)
            end = start + t.numel()
    if run:
        yield begin, torch.cat(run)


def _line(t: Tensor) -> Tensor:
    """The entries one after the other, real, in float32 at least."""
    t = t.detach()
    t = torch.view_as_real(t.resolve_conj()) if t.is_complex() else t
    return t.float().reshape(-1) if t.dtype in (torch.float16, torch.bfloat16) else t.reshape(-1)
