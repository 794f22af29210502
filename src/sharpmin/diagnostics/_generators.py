"""Stored random states of torch, Python, NumPy and a data loader."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sharpmin.optim._effects.rng import RandomState


class Randomness:
    """The states of every generator that a forward pass or a loader may draw from.

    >>> state = Randomness([], None)
    >>> first = torch.rand(2), random.random()
    >>> state.put_back()
    >>> torch.equal(first[0], torch.rand(2)), first[1] == random.random()
    (True, True)
    """

    def __init__(self, parameters: Sequence[Tensor], data: object):
        self._torch = RandomState(parameters)
        self._python = random.getstate()
        numpy = sys.modules.get("numpy")  # NumPy's generator only if NumPy is imported already
        self._numpy: tuple[Any, Any] | None = None if numpy is None else (numpy, numpy.random.get_state())
        self._own = [(g, g.get_state()) for g in _generators(data)]

    def put_back(self) -> None:
        """Restore every generator."""
        self._torch.put_back()
        random.setstate(self._python)
        if self._numpy is not None:
            self._numpy[0].random.set_state(self._numpy[1])
        for generator, state in self._own:
            generator.set_state(state)


def _generators(data: object) -> list[torch.Generator]:
    """The generators of a loader and of its samplers."""
    sampler, batches = getattr(data, "sampler", None), getattr(data, "batch_sampler", None)
    holders = (data, sampler, batches, getattr(batches, "sampler", None))
    found = [getattr(holder, "generator", None) for holder in holders]
    return list({id(g): g for g in found if isinstance(g, torch.Generator)}.values())
