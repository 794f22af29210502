"""The methods of a study, as a table: a new one is one entry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch.optim.optimizer import Optimizer

from sharpmin.core.rho import Tail, Until
from sharpmin.diagnostics import OnHold, Probe
from sharpmin.optim.sam import SAM
from sharpmin.optim.variants import clipped_sam, decayed_sam

LATE = 0.9
"""The share of the gradient evaluations after which `Until` switches SAM off, `Tail` switches it on, and verdicts look."""


@dataclass(frozen=True)
class Radii:
    """What a method may build on: the tuned and the far too large radius, and the budget of gradient evaluations."""

    tuned: float
    large: float
    evaluations: int

    @property
    def early(self) -> int:
        """The even number of evaluations before the late part."""
        return 2 * round(LATE * self.evaluations / 2)


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes:
        title: what a reader sees.
        build: makes the optimizer from the base and the radii.
        hold: makes what adapts rho after every epoch, if anything does.
        look: colour role and marker in figures.
    """

    title: str
    build: Callable[[Optimizer, Radii], SAM]
    look: tuple[str, str]
    hold: Callable[[SAM, Probe], OnHold] | None = None


METHODS: dict[str, Method] = {
    "base": Method("SGD, 2x the steps", lambda base, r: SAM(base, 0.0), ("soft", "square")),
    "sam": Method("SAM", lambda base, r: SAM(base, r.tuned), ("orange", "circle")),
    "sam-large": Method("SAM, large rho", lambda base, r: SAM(base, r.large), ("orange", "diamond")),
    "clipped": Method("clipped", lambda base, r: clipped_sam(base, r.tuned, theta=0.5), ("blue", "circle")),
    "clipped-large": Method("clipped, large rho", lambda base, r: clipped_sam(base, r.large, theta=0.5), ("blue", "diamond")),
    "decayed": Method("rho ~ sqrt(lr)", lambda base, r: decayed_sam(base, r.tuned), ("green", "circle")),
    "on-hold": Method("halved on hold", lambda base, r: SAM(base, r.tuned), ("green", "diamond"), OnHold),
    "tail": Method("on from 90 %", lambda base, r: SAM(base, Tail(r.tuned, r.early)), ("purple", "circle")),
    "until": Method("off from 90 %", lambda base, r: SAM(base, Until(r.tuned, r.early // 2)), ("purple", "diamond")),
}
"""Name -> method. A step of `Tail` before its start is one evaluation, one of `Until` before its stop two."""
