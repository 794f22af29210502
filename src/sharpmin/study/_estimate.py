"""A mean over seeds with its 95 % interval, and the ratio of two such means."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sharpmin.core.extras import optional

if TYPE_CHECKING:
    from scipy import stats
else:
    stats = optional("scipy.stats", extra="lab")


FEW = 4
"""With fewer seeds their values are shown, since an interval over two or three would mean little."""


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
        """The estimate from one value for each seed; None is a run that did not end finite.

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
        """The mean and half of its interval, if there is one, rounded accordingly.

        >>> Estimate(0.58288, 0.0123).text(), Estimate(5.1e-4, 2e-5).text(), Estimate(0.9733, 0.004).text(100)
        ('0.583 ± 0.012', '5.1e-04 ± 2e-05', '97.33 ± 0.40')
        """
        mean, half = self.mean * scale, None if self.half is None else self.half * scale
        if not math.isfinite(mean):
            return "not finite"
        if 0 < abs(mean) < 1e-3:
            return f"{mean:.1e}" if half is None else f"{mean:.1e} ± {half:.0e}"
        if not half:  # one run, or equal values
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

    def __str__(self) -> str:
        return self.shown()

    def record(self) -> dict[str, float | None]:
        """The estimate as values for JSON."""
        return {"mean": self.mean if math.isfinite(self.mean) else None, "half": self.half}


def ratio(over: Sequence[float], under: Sequence[float]) -> tuple[float, float, float]:
    """mean(over) / mean(under) of paired values, with its 95 % interval; (nan, -inf, inf) if mean(under) is not clearly > 0.

    The interval holds every r for which mean(over - r under) = 0 is not refused by Student's t: Fieller, Some problems in
    interval estimation, Journal of the Royal Statistical Society B 16, 1954.

    >>> [round(v, 3) for v in ratio([1.0, 1.2, 0.9, 1.1], [2.0, 2.3, 1.9, 2.2])]
    [0.5, 0.465, 0.528]
    """
    n = len(over)
    if n < 2:
        return math.nan, -math.inf, math.inf
    a, b = math.fsum(over) / n, math.fsum(under) / n
    scale = float(stats.t.ppf(0.975, n - 1)) ** 2 / (n * (n - 1))
    aa, ab, bb = (
        scale * math.fsum((x - p) * (y - q) for x, y in zip(one, two, strict=True))
        for one, two, p, q in ((over, over, a, a), (over, under, a, b), (under, under, b, b))
    )
    if b <= 0 or b * b <= bb:
        return math.nan, -math.inf, math.inf
    middle, width = a * b - ab, math.sqrt(max(0.0, (a * b - ab) ** 2 - (b * b - bb) * (a * a - aa)))
    return a / b, (middle - width) / (b * b - bb), (middle + width) / (b * b - bb)
