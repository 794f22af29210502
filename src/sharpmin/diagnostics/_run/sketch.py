"""A gradient in 256 numbers: a signed count sketch, whose inner products are unbiased estimates of those of the gradients.

All entries of all parameters stand in one line, in parameter order. Entry i goes to bucket `i mod 256` with a random sign;
entries that share a bucket cancel on average, so `<sketch(a), sketch(b)>` has the mean `<a, b>` and a standard deviation of
about `||a|| ||b|| / 16`. Signs depend only on the seed and on i, so the sketches of shards add up to that of the whole.
On a CPU the line is cut into chunks, which are signed and summed entry by entry into one chunk that stays in the cache and is
folded into the buckets at the end: one read of the gradient. On an accelerator, where the number of calls counts, tensors are
joined to long stretches, each signed and folded by one call.
Source: Charikar, Chen & Farach-Colton, Finding Frequent Items in Data Streams, ICALP 2002.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from sharpmin.optim._numeric.foreach import SMALL
from sharpmin.optim._numeric.kinds import on_host
from sharpmin.optim._numeric.lines import SCRATCH
from sharpmin.optim._numeric.shards import any_sharded, over_shards, shard_offset

BUCKETS = 256
_CHUNK = 128 * BUCKETS  # entries of a chunk, signed by a window into the sequence of signs
_OFFSETS = 32_768
_STRETCH = SCRATCH // 32 // _CHUNK * _CHUNK  # entries signed by one call on an accelerator: four in float64 fit
_Kind = tuple[torch.dtype, torch.device]


def places(tensors: Sequence[Tensor]) -> list[int]:
    """The start of each tensor in the line of all entries; a complex entry counts as two.

    >>> places([torch.zeros(10), torch.zeros(3, dtype=torch.complex64), torch.zeros(2, 2)])
    [0, 10, 16]
    """
    return list(accumulate(map(_size, tensors), initial=0))[:-1]


def _size(t: Tensor) -> int:
    return t.numel() * (2 if t.is_complex() else 1)


class Sketch:
    """The linear map from gradients to sketches; it stores a third of a megabyte of signs, and nothing per parameter.

    Args:
        seed: chooses the signs.

    >>> sketch, a, b = Sketch(), torch.ones(1000), torch.arange(1000.0)
    >>> torch.allclose(sketch([a]) + 2 * sketch([b]), sketch([a + 2 * b]))
    True
    >>> torch.allclose(sketch([a[:300]], starts=[0]) + sketch([a[300:]], starts=[300]), sketch([a]))
    True
    """

    def __init__(self, seed: int = 0):
        self._seed = seed
        generator = torch.Generator("cpu").manual_seed(seed)
        bits = torch.randint(0, 2, (_OFFSETS + _CHUNK,), generator=generator, dtype=torch.int8, device="cpu")
        self._signs = bits * 2 - 1
        self._windows: dict[int, tuple[int, int]] = {}
        self._cast: dict[_Kind, Tensor] = {}
        self._offsets: dict[torch.device, Tensor] = {}

    def __repr__(self) -> str:
        return f"Sketch(seed={self._seed})"

    def __call__(self, tensors: Sequence[Tensor], *, starts: Sequence[int] | None = None) -> Tensor:
        """The sketch of dense tensors, shape (256,), float64; of DTensors the same on every rank, by one reduction.

        Args:
            tensors: the parts of the vector.
            starts: their starts in the line, by default one after the other.
        """
        return self._over(self._one, tensors, starts=starts)

    def compare(
        self, clean: Sequence[Tensor], perturbed: Sequence[Tensor], *, starts: Sequence[int] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Sketches and inner products of two gradients g and G, in one read of both, and one reduction for DTensors.

        Args:
            clean: g, dense.
            perturbed: G, like g.
            starts: their starts in the line.

        Returns:
            The sketches of g and of D = G - g, shape (256,) each, and `||g||^2, <D, g>, ||D||^2`, shape (3,); all float64.

        >>> g, big = [torch.tensor([3.0, 4.0])], [torch.tensor([3.0, 5.0])]
        >>> sketch = Sketch()
        >>> of_g, of_d, products = sketch.compare(g, big)
        >>> products.tolist(), torch.equal(of_g, sketch(g)), torch.equal(of_g + of_d, sketch(big))
        ([25.0, 4.0, 1.0], True, True)
        """
        found = self._over(self._two, clean, perturbed, starts=starts)
        return found[:BUCKETS], found[BUCKETS:-3], found[-3:]

    def _over(self, measure: Callable[..., Tensor], *lists: Sequence[Tensor], starts: Sequence[int] | None = None) -> Tensor:
        """`measure` of parallel lists, summed over the shards of all ranks."""
        at = places(lists[0]) if starts is None else starts
        if not any_sharded(lists[0]):
            return measure(at, *lists)
        rows = [shard_offset(*row) for row in zip(at, *lists, strict=True)]
        found: Tensor = over_shards(lambda parts, where, *rest: measure(where, parts, *rest), _columns(rows))
        return found

    def _one(self, starts: Sequence[int], tensors: Sequence[Tensor]) -> Tensor:
        """The sketch of plain tensors."""
        sums: dict[_Kind, Tensor] = {}
        if not on_host(tensors[:1]):
            found = [self._signed(start, line) for start, (line,) in _stretches(starts, [tensors])]
            return torch.stack(found).sum(0) if found else _folded(sums, 1, tensors)
        for start, (line,) in _runs(starts, [tensors]):
            (total,) = _room(sums, 1, line)
            for chunk, within, part in _chunks(start, line.numel()):
                signs, turn = self._of(chunk, line)
                total[within].addcmul_(line[part], signs[within], value=turn)
        return _folded(sums, 1, tensors)

    def _two(self, starts: Sequence[int], clean: Sequence[Tensor], perturbed: Sequence[Tensor]) -> Tensor:
        """Both sketches and the products of plain tensors, concatenated."""
        sums: dict[_Kind, Tensor] = {}
        scratch: dict[_Kind, Tensor] = {}
        dots: list[Tensor] = []
        if not on_host(clean[:1]):
            found = [self._compared(start, *both) for start, both in _stretches(starts, [clean, perturbed])]
            return torch.stack(found).sum(0) if found else _folded(sums, 3, clean)[: 2 * BUCKETS + 3]
        for start, (line, big) in _runs(starts, [clean, perturbed]):
            of_g, of_d = _room(sums, 2, line)
            (room,) = _room(scratch, 1, line)
            for chunk, within, part in _chunks(start, line.numel()):
                signs, turn = self._of(chunk, line)
                g, own = line[part], signs[within]
                d = torch.sub(big[part], g, out=room[: g.numel()])
                of_g[within].addcmul_(g, own, value=turn)
                of_d[within].addcmul_(d, own, value=turn)
                dots += _dots(g, d)
        sketches = _folded(sums, 2, clean)
        products = [torch.stack([dot.to(sketches) for dot in dots]).view(-1, 3).sum(0)] if dots else [sketches.new_zeros(3)]
        return torch.cat([sketches, *products])

    def _compared(self, start: int, line: Tensor, big: Tensor) -> Tensor:
        """`_two` for one stretch, on an accelerator."""
        d = big - line
        signs = self._signs_of(start, line)
        return torch.cat([_fold(start, line * signs), _fold(start, d * signs), torch.stack(_dots(line, d)).double()])

    def _signed(self, start: int, line: Tensor) -> Tensor:
        """The sketch of one stretch, on an accelerator."""
        return _fold(start, line * self._signs_of(start, line))

    def _signs_of(self, start: int, line: Tensor) -> Tensor:
        """The signs of all entries of a stretch: windows into the sequence and its negative, by one call."""
        first, last = start // _CHUNK, (start + line.numel() - 1) // _CHUNK
        offsets = self._offsets.get(line.device)
        if offsets is None or len(offsets) <= last:
            turned = [offset if turn > 0 else offset + len(self._signs) for offset, turn in map(self._window, range(last + 1))]
            offsets = self._offsets[line.device] = torch.tensor(turned, device="cpu").to(line.device, non_blocking=True)
        key = (line.dtype, line.device)
        if key not in self._cast:
            self._cast[key] = torch.cat([self._signs, -self._signs]).to(line.dtype).to(line.device, non_blocking=True)
        windows = self._cast[key].unfold(0, _CHUNK, 1).index_select(0, offsets[first : last + 1])
        within = start - first * _CHUNK
        return windows.view(-1)[within : within + line.numel()]

    def _of(self, chunk: int, like: Tensor) -> tuple[Tensor, int]:
        """The signs of a chunk: a window into the sequence, and a common sign."""
        offset, turn = self._window(chunk)
        key = (like.dtype, like.device)
        if key not in self._cast:
            self._cast[key] = self._signs.to(like.device, like.dtype)
        return self._cast[key][offset : offset + _CHUNK], turn

    def _window(self, chunk: int) -> tuple[int, int]:
        """The start of a chunk's window in the sequence of signs, and its common sign."""
        if chunk not in self._windows:
            draw = random.Random(f"{self._seed}:{chunk}")  # not for security
            self._windows[chunk] = draw.randrange(_OFFSETS), draw.choice((-1, 1))
        return self._windows[chunk]


def _dots(g: Tensor, d: Tensor) -> list[Tensor]:
    """`||g||^2, <D, g>, ||D||^2` of one stretch."""
    return [torch.dot(g, g), torch.dot(d, g), torch.dot(d, d)]


def _fold(start: int, signed: Tensor) -> Tensor:
    """Sum a stretch that begins at `start` into the buckets: shape (256,), float64."""
    head = min(-start % BUCKETS, len(signed))
    rows = (len(signed) - head) // BUCKETS
    end = head + rows * BUCKETS
    total = signed[head:end].view(rows, BUCKETS).sum(0, dtype=torch.float64)
    total[start % BUCKETS : start % BUCKETS + head] += signed[:head]
    total[: len(signed) - end] += signed[end:]
    return total


def _room(sums: dict[_Kind, Tensor], count: int, line: Tensor) -> Tensor:
    """`count` accumulator chunks of the dtype and device of `line`, zero at first."""
    key = line.dtype, line.device
    if key not in sums:
        sums[key] = torch.zeros(count, _CHUNK, dtype=line.dtype, device=line.device)
    return sums[key]


def _folded(sums: Mapping[_Kind, Tensor], count: int, tensors: Sequence[Tensor]) -> Tensor:
    """Fold the accumulator chunks into buckets: float64, shape (count * 256,)."""
    device = tensors[0].device if tensors else torch.device("cpu")
    total = torch.zeros(count * BUCKETS, dtype=torch.float64, device=device)
    for own in sums.values():
        total += own.view(count, -1, BUCKETS).double().sum(1).reshape(-1).to(device)
    return total


def _chunks(start: int, size: int) -> Iterator[tuple[int, slice, slice]]:
    """Split a stretch of the line at the chunks: (chunk, slice of the chunk, slice of the stretch)."""
    at = 0
    while at < size:
        chunk, within = divmod(start + at, _CHUNK)
        length = min(_CHUNK - within, size - at)
        yield chunk, slice(within, within + length), slice(at, at + length)
        at += length


def _stretches(starts: Sequence[int], lists: Sequence[Sequence[Tensor]]) -> Iterator[tuple[int, list[Tensor]]]:
    """Stretches of at most `_STRETCH` entries, for an accelerator: neighbors joined, longer tensors cut."""
    for start, lines in _runs(starts, lists, _STRETCH):
        for at in range(0, lines[0].numel(), _STRETCH):
            yield start + at, [line[at : at + _STRETCH] for line in lines]


def _runs(
    starts: Sequence[int], lists: Sequence[Sequence[Tensor]], most: int = SMALL
) -> Iterator[tuple[int, Sequence[Tensor]]]:
    """Stretches of the line: neighbors with less than `most` entries each are joined, larger tensors come alone."""
    run: list[Sequence[Tensor]] = []
    begin = end = 0
    for start, *row in zip(starts, *lists, strict=True):
        size = _size(row[0])
        full = most > SMALL and run and end - begin + size > most
        if run and (full or start != end or size >= most or _kind(row[0]) != _kind(run[0][0])):
            yield begin, _joined(run)
            run = []
        if size >= most:
            yield start, list(map(_line, row))
        elif size:
            begin = begin if run else start
            run.append(row)
            end = start + size
    if run:
        yield begin, _joined(run)


def _kind(t: Tensor) -> _Kind:
    return t.dtype, t.device


def _joined(rows: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    return [torch.cat(list(map(_line, column))) for column in zip(*rows, strict=True)]


def _columns(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _line(t: Tensor) -> Tensor:
    """The entries of a tensor as a real vector, in float32 at least."""
    t = t.detach()
    t = torch.view_as_real(t.resolve_conj()) if t.is_complex() else t
    return t.float().reshape(-1) if t.dtype in (torch.float16, torch.bfloat16) else t.reshape(-1)
