"""One confrontation of a bound with a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Relation = Literal["<=", ">=", "==", "<"]


@dataclass(frozen=True)
class Cell:
    """One confrontation of a bound with a run: `measured relation bound`.

    Attributes:
        instance: the function, the method and the numbers, in words.
        measured: what the run gave; the mean over seeds where it is random.
        relation: how it must relate to `bound`; "<" has to be decided, by four standard errors.
        bound: what the statement says.
        error: the standard error of `measured`; four of them are granted, or demanded for "<".
        trivial: what was known before the first step; a `<=` bound no smaller than that is vacuous.
        tolerance: the relative rounding that is granted.
        resolution: the absolute rounding of `measured`, where it is a difference of function values.
    """

    instance: str
    measured: float
    relation: Relation
    bound: float
    error: float = 0.0
    trivial: float | None = None
    tolerance: float = 1e-9
    resolution: float = 0.0

    @property
    def slack(self) -> float:
        """What is granted for noise and rounding."""
        return 4 * self.error + self.tolerance * abs(self.bound) + self.resolution

    @property
    def room(self) -> float:
        """How much further off the run may be before the statement is refuted, relative to the bound; negative if it is."""
        excess = {
            "<=": self.measured - self.bound,
            ">=": self.bound - self.measured,
            "==": abs(self.measured - self.bound),
            "<": self.measured - self.bound + 2 * self.slack,
        }[self.relation]
        return (self.slack - excess) / max(abs(self.bound), 1e-300)

    @property
    def holds(self) -> bool:
        """Whether the run is compatible with the bound; a nan never is."""
        return self.room > 0 if self.relation == "<" else self.room >= 0

    @property
    def vacuous(self) -> bool:
        """Whether the bound says no more than its value at T = 0, or lies below the rounding of what is measured."""
        if self.relation != "<=":
            return False
        return (self.trivial is not None and self.bound >= self.trivial) or 0 < self.bound <= self.resolution

    @property
    def ratio(self) -> float:
        """Measured over bound; 1 for 0 over 0."""
        if self.bound == 0:
            return 1.0 if self.measured == 0 else float("inf")
        return self.measured / self.bound
