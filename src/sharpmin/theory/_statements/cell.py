"""One comparison of a bound with a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Relation = Literal["<=", ">=", "==", "<"]


@dataclass(frozen=True)
class Cell:
    """One comparison of a bound with a run: `measured relation bound`.

    Attributes:
        instance: the function, the method and the numbers, in words.
        measured: the quantity measured in the run; the mean over seeds for a random method.
        relation: how it must relate to `bound`; "<" must hold by four standard errors.
        bound: the value of the bound.
        error: the standard error of `measured`; four of them are allowed, or required for "<".
        trivial: the bound before the first step; a `<=` bound that is not smaller is vacuous.
        tolerance: the relative rounding error that is allowed.
        resolution: the absolute rounding error of `measured`, if it is a difference of function values.
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
        """The allowance for noise and rounding."""
        return 4 * self.error + self.tolerance * abs(self.bound) + self.resolution

    @property
    def room(self) -> float:
        """How far the run is from refuting the statement, relative to the bound; negative if it refutes it."""
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
        """Whether the bound is no smaller than its value at T = 0, or lies below the rounding error of `measured`."""
        if self.relation != "<=":
            return False
        return (self.trivial is not None and self.bound >= self.trivial) or 0 < self.bound <= self.resolution

    @property
    def ratio(self) -> float:
        """Measured over bound; 1 for 0 over 0."""
        if self.bound == 0:
            return 1.0 if self.measured == 0 else float("inf")
        return self.measured / self.bound
