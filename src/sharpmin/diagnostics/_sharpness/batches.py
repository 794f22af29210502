"""Data for several passes: the same batches in the same order, or one clear error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.data import DataLoader, RandomSampler, SubsetRandomSampler, WeightedRandomSampler

from sharpmin.optim._numeric.kinds import pieces

_RANDOM = (RandomSampler, SubsetRandomSampler, WeightedRandomSampler)
_PRIME = 1_000_003  # weights that make the order of pieces count


@dataclass(frozen=True)
class Batch:
    """Some samples.

    Attributes:
        inputs, targets: as the loader gave them, on the device of the model.
        size: the number of samples, the length of the first tensor of the targets.
    """

    inputs: Any
    targets: Any
    size: int

    def part(self, start: int, stop: int) -> Batch:
        """The samples from `start` up to `stop`."""
        if start == 0 and stop == self.size:
            return self

        def cut(t: Tensor) -> Tensor:
            return t[start:stop] if t.dim() and len(t) == self.size else t

        return Batch(tree_map_only(Tensor, cut, self.inputs), tree_map_only(Tensor, cut, self.targets), stop - start)


def check_repeatable(data: object, owner: str) -> None:
    """Raise for data that cannot be iterated again in the same order.

    Raises:
        TypeError: for an iterator, or something that is no iterable.
        ValueError: for a loader that shuffles.
    """
    if not isinstance(data, Iterable):
        raise TypeError(
            f"{owner}: data={type(data).__name__} is not iterable; give a list of batches: data=[(inputs, targets)]"
        )
    if isinstance(data, Iterator):
        raise TypeError(
            f"{owner}: data={type(data).__name__} can be gone over once only, and many passes are needed; give list(data)"
        )
    if isinstance(data, DataLoader):
        samplers = (data.sampler, data.batch_sampler, getattr(data.batch_sampler, "sampler", None))
        shuffling = next((s for s in samplers if isinstance(s, _RANDOM) or getattr(s, "shuffle", False) is True), None)
        if shuffling is not None:
            raise ValueError(
                f"{owner}: the loader shuffles ({type(shuffling).__name__}), and every pass must see the same batches; "
                "give DataLoader(dataset, batch_size=..., shuffle=False)"
            )


class Batches:
    """Data whose every pass is checked to equal the first one; `samples` is their number.

    >>> data = Batches([(torch.zeros(3, 1), torch.zeros(3)), (torch.zeros(2, 1), torch.zeros(2))], torch.device("cpu"), "doc")
    >>> data.samples, [b.size for b in data]
    (5, [3, 2])
    """

    def __init__(self, data: Iterable[Any], device: torch.device, owner: str):
        self._data, self._device, self._owner = data, device, owner
        self._first: list[int] | None = None
        self.samples = sum(batch.size for batch in self)
        if not self.samples:
            raise ValueError(f"{owner}: data holds no samples; give at least one batch (inputs, targets)")

    def __iter__(self) -> Iterator[Batch]:
        marks = []
        for item in self._data:
            batch = self._batch(item)
            marks += [_mark(t) for t in tree_leaves((batch.inputs, batch.targets)) if isinstance(t, Tensor)]
            if batch.size:
                yield batch
        self._compare([int(mark) for mark in marks])

    def _batch(self, item: Any) -> Batch:
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            what = f"{type(item).__name__} of {len(item)}" if hasattr(item, "__len__") else type(item).__name__
            raise TypeError(
                f"{self._owner}: a batch is a {what}; batches must be pairs (inputs, targets), "
                "such as data=[(b['x'], b['y']) for b in loader]"
            )
        inputs, targets = tree_map_only(Tensor, self._place, tuple(item))
        sizes = [len(t) for part in (targets, inputs) for t in tree_leaves(part) if isinstance(t, Tensor) and t.dim()]
        if not sizes:
            raise TypeError(f"{self._owner}: a batch holds no tensor with a first dimension of samples")
        return Batch(inputs, targets, sizes[0])

    def _place(self, t: Tensor) -> Tensor:
        here = t.to(self._device)
        return here.clone() if here.is_inference() else here  # autograd refuses tensors made in inference mode

    def _compare(self, marks: list[int]) -> None:
        if self._first is None:
            self._first = marks
        elif marks != self._first:
            raise ValueError(
                f"{self._owner}: a second pass over the data gave other batches (shuffling, or augmentation at random); "
                "give data=list(loader)"
            )


def _mark(t: Tensor) -> Tensor:
    """A checksum of the bits and their order, shape (), int64; equal on every device, since integer sums are exact."""
    total = torch.zeros((), dtype=torch.int64, device=t.device)
    if t.is_nested or t.layout not in (torch.strided, torch.sparse_coo):
        return total
    for piece in pieces(t.detach()):
        bits = piece.view(torch.int32 if piece.element_size() % 4 == 0 else torch.uint8).long()
        total = total * _PRIME + (bits * torch.arange(1, len(bits) + 1, device=t.device)).sum()
    return total


def groups(data: Iterable[Batch], m: int) -> Iterator[tuple[list[Batch], int]]:
    """Consecutive groups of m samples, each a list of parts of batches with its size; the last may be shorter.

    >>> batches = [Batch(torch.arange(3), torch.arange(3), 3), Batch(torch.arange(2), torch.arange(2), 2)]
    >>> [([piece.size for piece in pieces], size) for pieces, size in groups(batches, 2)]
    [([2], 2), ([1, 1], 2), ([1], 1)]
    """
    pieces: list[Batch] = []
    room = m
    for batch in data:
        start = 0
        while start < batch.size:
            stop = min(start + room, batch.size)
            pieces.append(batch.part(start, stop))
            room -= stop - start
            start = stop
            if not room:
                yield pieces, m
                pieces, room = [], m
    if pieces:
        yield pieces, m - room
