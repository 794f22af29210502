"""The numbers of a diagnosis as rows of a table: the meaning and the limits of each."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from sharpmin.diagnostics import Diagnosis, Floor, Numbers
from sharpmin.diagnostics._run.verdict import SHARE


@dataclass(frozen=True)
class Entry:
    """One row: a number of a diagnosis.

    Attributes:
        name: its name, a few words.
        value: the number; None if the window does not determine it.
        meaning: its meaning in one line.
        limit: its limits in one line; may be empty.
        bounds: the interval around it, of the `kind` "95 %" or "bracket".
        percent: whether it is shown as a share.
    """

    name: str
    value: float | None
    meaning: str
    limit: str = ""
    bounds: tuple[float, float] | None = None
    kind: str = "95 %"
    percent: bool = False

    @property
    def text(self) -> str:
        """The number as text."""
        return shown(self.value, percent=self.percent)

    @property
    def around(self) -> str:
        """Interval or bracket as text; empty if there is none."""
        if self.bounds is None or not all(map(math.isfinite, self.bounds)):
            return ""
        low, high = (shown(value, percent=self.percent) for value in self.bounds)
        return f"{low} to {high}"


def shown(value: float | None, *, percent: bool = False) -> str:
    """A number with three digits, or as a share.

    >>> shown(0.7312, percent=True), shown(-0.00123, percent=True), shown(1.23456e-7), shown(None)
    ('73%', '-0.12%', '1.23e-07', 'unresolved')
    """
    if value is None or not math.isfinite(value):
        return "unresolved"
    if percent:
        return f"{value:.0%}" if abs(value) >= 0.1 or value == 0 else f"{100 * value:.2g}%"
    return f"{value:.3g}"


def entries(diagnosis: Diagnosis) -> list[Entry]:
    """All numbers, the most important first."""
    n, floor = diagnosis.numbers, diagnosis.floor
    return [*_force(n), *_fall(n), *(() if floor is None else _floor(floor)), *_steps(n)]


def _force(n: Numbers) -> Iterator[Entry]:
    yield Entry(
        "share of the gradient cancelled",
        n.resolved,
        "How much of the mean loss gradient SAM's force cancels (kappa): 100% is all of it, below 0 SAM helps.",
        "Unresolved if noise hides the mean gradient of the window.",
        n.cancelled_interval,
        percent=True,
    )
    yield Entry(
        "p-value of SAM's force",
        n.p_value,
        "Whether the mean difference of the two gradients could be noise: a sign-flip test over blocks.",
        "It decides nothing by itself: it is often tiny where rho hardly matters.",
    )


def _fall(n: Numbers) -> Iterator[Entry]:
    yield Entry(
        "predicted fall",
        n.fall,
        f"By how much the training loss should fall within {n.horizon} steps of rho = 0: the two parts below.",
        "A prediction for the training loss, not for test accuracy; diagnostics.toggle measures it.",
        n.fall_interval,
    )
    yield Entry(
        "  without SAM's force",
        n.drop,
        "The part of the loss that the force holds up, computed with the curvature along the gradient.",
        "Beyond the horizon nothing is predicted.",
        n.drop_interval,
    )
    yield Entry(
        "  the same, at any curvature",
        n.drop,
        "The same, computed with the largest curvature that the differences show, and with none.",
        "A bracket, not a confidence interval.",
        (min(n.lower, n.upper), max(n.lower, n.upper)),
        "bracket",
    )
    yield Entry(
        "  without the noise SAM adds",
        n.relief,
        "What goes within the horizon when SAM no longer amplifies the noise of the batches.",
        "An estimate, within a factor of about 3 on nets.",
    )
    if n.loss is not None:
        yield Entry("training loss", n.loss, "The mean of the newest block, at w.")
        yield Entry(
            "a fall that counts",
            SHARE * n.loss if n.loss > 0 else None,
            f"{SHARE:.1%} of the loss: the verdict compares the predicted fall with it.",
            "" if n.loss > 0 else "A loss that is not positive has no such share.",
        )


def _floor(floor: Floor) -> Iterator[Entry]:
    yield Entry(
        "gap: rho's bias",
        floor.bias,
        "The part of the gap to the optimum that is due to the force, computed with the declared mu.",
        "The ends are for curvature lam in all directions, and mu in all directions.",
        (floor.bias_low, floor.bias_high),
        "bracket",
    )
    yield Entry(
        "gap: noise that rho adds",
        floor.of_rho - floor.bias,
        "The share a/(1+a) of the noise part.",
        "" if floor.replacement else "An upper bound.",
    )
    yield Entry(
        "gap: noise that stays",
        floor.of_noise,
        "What a run without SAM would keep at this learning rate and batch size.",
        ""
        if floor.replacement
        else "An upper bound, 2 to 25 times too high, unless samples are drawn with replacement (reshuffled=False).",
    )


def _steps(n: Numbers) -> Iterator[Entry]:
    yield Entry(
        "SAM's gradient is longer by",
        n.amplification,
        "Along the plain gradient (the amplification a); a floor of noise rises with it.",
        percent=True,
    )
    yield Entry(
        "bounce, 2 on a two-cycle",
        n.bounce,
        "lr times the curvature along SAM's step (S): 2 where the iterates oscillate.",
    )
    if n.lag is not None:
        yield Entry(
            "cosine, gradient to the next", n.lag, "Of one gradient and the next: -1 on a two-cycle, 1 on a smooth path."
        )
    if n.ascending is not None:
        yield Entry(
            "mean gradient, at w + e over w",
            n.ascending,
            "Its length at w + e over that at w: near 0 SAM stands still where the loss could still fall.",
            percent=True,
        )
    yield Entry(
        "curvature along the gradient",
        n.curvature,
        "Of the loss (lam), from the difference of the two gradients.",
    )
    if n.edge is not None:
        yield Entry(
            "SAM's edge of stability",
            n.edge,
            "The curvature (lam*) above which SAM is unstable, at this lr, rho and gradient norm.",
            "For an eigenvector of the Hessian; lam is a mean along noisy gradients, so it is smaller.",
        )
    yield Entry(
        "smoothness of the batches",
        n.smoothness,
        "The length of the difference of the two gradients over rho (b).",
        "The smoothness of minibatch losses, 3 to 4 times that of the loss; alone no sign of trouble.",
    )
