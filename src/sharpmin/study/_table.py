"""The table of a study: means over seeds with 95 % intervals, a row a method, clean and noisy."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sharpmin.core.extras import optional

from ._methods import METHODS
from ._run import Cell

if TYPE_CHECKING:
    from scipy import stats
else:
    stats = optional("scipy.stats", extra="lab")


FEW = 4
"""With fewer seeds than these the values of the seeds are shown: an interval over two or three says next to nothing."""


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes:
        mean: nan if one of the runs did not end finite.
        half: half of the 95 % interval, by Student's t; None for one seed.
        values: one a seed; None is a run that did not end finite.
    """

    mean: float
    half: float | None
    values: tuple[float | None, ...] = field(default=(), compare=False, repr=False)

    @classmethod
    def of(cls, values: Sequence[float | None]) -> Estimate:
        """From one value a seed; None is a run that did not end finite.

        >>> Estimate.of([1.0, 2.0, 3.0])
        Estimate(mean=2.0, half=2.484137711...)
        """
        known = [v for v in values if v is not None]
        if len(known) < len(values) or not known:
            return cls(math.nan, None, tuple(values))
        n, mean = len(known), math.fsum(known) / len(known)
        if n == 1:
            return cls(mean, None, tuple(values))
        spread = math.sqrt(math.fsum((v - mean) ** 2 for v in known) / (n - 1))
        return cls(mean, float(stats.t.ppf(0.975, n - 1)) * spread / math.sqrt(n), tuple(values))

    @property
    def low(self) -> float:
        """The lower end of the interval; -inf without one."""
        return -math.inf if self.half is None else self.mean - self.half

    @property
    def high(self) -> float:
        """The upper end of the interval; inf without one."""
        return math.inf if self.half is None else self.mean + self.half

    def text(self, scale: float = 1.0) -> str:
        """The mean, and the half interval where there is one, in as many digits as it carries.

        >>> Estimate(0.58288, 0.0123).text(), Estimate(5.1e-4, 2e-5).text(), Estimate(0.9733, 0.004).text(100)
        ('0.583 ± 0.012', '5.1e-04 ± 2e-05', '97.33 ± 0.40')
        """
        mean, half = self.mean * scale, None if self.half is None else self.half * scale
        if not math.isfinite(mean):
            return "not finite"
        if 0 < abs(mean) < 1e-3:
            return f"{mean:.1e}" if half is None else f"{mean:.1e} ± {half:.0e}"
        if not half:  # one run, or all alike
            return f"{mean:.4g}" + (" ± 0" if half == 0 else "")
        digits = min(4, max(0, 1 - math.floor(math.log10(half))))
        return f"{mean:.{digits}f} ± {half:.{digits}f}"

    def shown(self, scale: float = 1.0) -> str:
        """The mean with its interval, or with the values of the seeds where these are few.

        >>> Estimate.of([0.97, 0.98]).shown(100), Estimate.of([1.0, 2.0, 3.0, 2.0]).shown(), Estimate.of([0.97]).shown(100)
        ('97.5 (97, 98)', '2.0 ± 1.3', '97')
        """
        if not 1 < len(self.values) < FEW:
            return self.text(scale)
        each = (Estimate(math.nan if v is None else v, None).text(scale) for v in self.values)
        return f"{Estimate(self.mean, None).text(scale)} ({', '.join(each)})"

    def record(self) -> dict[str, float | None]:
        """For JSON."""
        return {"mean": self.mean if math.isfinite(self.mean) else None, "half": self.half}


@dataclass(frozen=True)
class Line:
    """A method, clean or noisy, over its seeds."""

    method: str
    noise: float
    runs: int
    loss: Estimate
    gap: Estimate
    accuracy: Estimate
    eigenvalue: Estimate
    verdicts: Mapping[str, int]

    @property
    def few(self) -> bool:
        """Whether the values of the seeds are shown instead of an interval."""
        return self.runs < FEW

    def record(self) -> dict[str, Any]:
        """For JSON."""
        numbers = {name: getattr(self, name).record() for name in ("loss", "gap", "accuracy", "eigenvalue")}
        return {"method": self.method, "noise": self.noise, "runs": self.runs, **numbers, "verdicts": dict(self.verdicts)}


def table(rows: Mapping[Cell, Mapping[str, Any]]) -> list[Line]:
    """The lines, clean first, in the order of `METHODS`; rows may come in any order."""
    lines = []
    for noise in sorted({cell.noise for cell in rows}):
        for method in METHODS:
            own = sorted((cell for cell in rows if (cell.method, cell.noise) == (method, noise)), key=lambda cell: cell.seed)
            if own:
                numbers = {k: Estimate.of([rows[c][k] for c in own]) for k in ("loss", "gap", "accuracy", "eigenvalue")}
                verdicts = dict(sorted(Counter(rows[c]["verdict"] for c in own).items(), key=lambda kv: (-kv[1], kv[0])))
                lines.append(Line(method, noise, len(own), verdicts=verdicts, **numbers))
    return lines


def paired(rows: Mapping[Cell, Mapping[str, Any]], quantity: str, method: str, against: str, noise: float) -> Estimate:
    """The difference of two methods, seed by seed: both saw the same labels and the same first weights."""
    found = {(c.method, c.seed): row[quantity] for c, row in rows.items() if c.noise == noise}
    seeds = sorted(seed for name, seed in found if name == method and (against, seed) in found)
    both = [(found[method, seed], found[against, seed]) for seed in seeds]
    return Estimate.of([None if a is None or b is None else a - b for a, b in both])
