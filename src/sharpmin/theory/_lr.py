"""Step sizes over time, called with the step t = 0, 1, ...."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

LRSchedule: TypeAlias = Callable[[int], float]


@dataclass(frozen=True)
class InverseTime:
    """lr_t = 2 / (mu (t + shift)): the classical decay for strongly convex functions; knows no horizon.

    >>> InverseTime(mu=0.1, shift=40.0)(0)
    0.5
    """

    mu: float
    shift: float

    def __call__(self, step: int) -> float:
        """The step size at `step`."""
        return 2.0 / (self.mu * (step + self.shift))
