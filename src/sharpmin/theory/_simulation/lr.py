"""Step sizes over time, called with the step t = 0, 1, ...."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from sharpmin.core.rho import finite

from .._statements.assume import over

LRSchedule: TypeAlias = Callable[[int], float]


@dataclass(frozen=True)
class InverseTime:
    """lr_t = 2 / (mu (t + shift)): the classical decay for strongly convex functions; independent of the horizon.

    Raises:
        TypeError: unless mu and shift are numbers.
        ValueError: unless they are finite and > 0, and so is the first step size, 2/(mu shift).

    >>> InverseTime(mu=0.1, shift=40.0)(0)
    0.5
    """

    mu: float
    shift: float

    def __post_init__(self) -> None:
        for name in ("mu", "shift"):
            object.__setattr__(self, name, finite(getattr(self, name), name, "InverseTime", low=0, strict=True))
        finite(over(2.0, self.mu * self.shift), "2/(mu shift)", "InverseTime", low=0, strict=True)

    def __call__(self, step: int) -> float:
        """The step size at `step`."""
        return 2.0 / (self.mu * (step + self.shift))
