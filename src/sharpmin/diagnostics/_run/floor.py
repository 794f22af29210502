"""The parts of the gap to the optimum on a strongly convex loss: the part due to rho, and the part due to batch noise.

It needs the strong convexity mu (of an l2 penalty, say). The noise part is right for samples drawn with replacement; on
reshuffled data it is an upper bound, 2 to 25 times too large.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sharpmin.core.text import block, brief

from .statistics import Numbers, pairs
from .window import Window


@dataclass(frozen=True)
class Floor:
    """The estimated parts of f - f*.

    Attributes:
        bias: the part due to the mean of D, U / (2 sqrt(lam mu)).
        bias_low, bias_high: its bracket, U / (2 lam) and U / (2 mu).
        noise: W = (mean <g, x> - <gb, mean x>) / 2, the part due to noise, its amplification by SAM included.
        amplification: a; the share a / (1 + a) of the noise part is SAM's.
        replacement: whether samples were declared to be drawn with replacement.
    """

    bias: float
    bias_low: float
    bias_high: float
    noise: float
    amplification: float
    replacement: bool

    def __str__(self) -> str:
        """The parts of the gap.

        >>> print(Floor(2e-3, 1e-3, 4e-3, noise=1e-3, amplification=0.25, replacement=True))
        estimated parts of the gap to the optimum
          of rho    0.0022  vanishes with rho = 0
          of noise  0.0008  stays
          bias      0.002   bracket 0.001 to 0.004
          noise     0.001   20% of it amplified by SAM
        """
        share = self.amplification / (1 + self.amplification)
        rows = [
            ("of rho", self.of_rho, "vanishes with rho = 0"),
            ("of noise", self.of_noise, "stays" if self.replacement else "an upper bound; stays"),
            ("bias", self.bias, f"bracket {brief((self.bias_low, self.bias_high))}"),
            ("noise", self.noise, f"{share:.0%} of it amplified by SAM"),
        ]
        return block("estimated parts of the gap to the optimum", rows)

    @classmethod
    def of(cls, window: Window, numbers: Numbers) -> Floor | None:
        """The parts for a window, or None if its rows have no sketches of the weights."""
        mu, curvature = float(window.run["mu"]), max(numbers.curvature, float(window.run["mu"]))
        if not window.has("x") or "gx" not in window.scalars:
            return None
        g, x = window.sketches("g"), window.sketches("x")
        squared = max(0.0, pairs(window.gram[2]) / (window.blocks * (window.blocks - 1)))
        noise = max(0.0, (window.scalars["gx"] - float(g.mean(0) @ x.mean(0))) / 2)
        return cls(
            squared / (2 * math.sqrt(curvature * mu)),
            squared / (2 * curvature),
            squared / (2 * mu),
            noise,
            max(0.0, numbers.amplification),
            window.run.get("reshuffled") is False,
        )

    @property
    def of_rho(self) -> float:
        """The part that vanishes with rho = 0: the bias, and SAM's share of the noise part."""
        return self.bias + self.noise * self.amplification / (1 + self.amplification)

    @property
    def of_noise(self) -> float:
        """The part that stays with rho = 0."""
        return self.noise / (1 + self.amplification)

    @property
    def larger(self) -> str:
        """The part that is more than twice the other: "rho", "noise" (only for sampling with replacement), or "neither"."""
        if self.of_rho > 2 * self.of_noise:
            return "rho"
        return "noise" if 2 * self.of_rho < self.of_noise and self.replacement else "neither"

    def words(self) -> tuple[str, str]:
        """The finding and the advice, in two sentences."""
        parts = (
            f"about {self.of_rho:.2g} of the gap to the optimum are rho's (bias {self.bias_low:.2g} to {self.bias_high:.2g})"
        )
        noise = f"{self.of_noise:.2g} the noise's" if self.replacement else f"at most {self.of_noise:.2g} the noise's"
        advice = {
            "rho": "Let rho fall with the learning rate, or switch it off late: the rest of the gap goes with it.",
            "noise": "A smaller learning rate or larger batches lower the gap; rho hardly matters here.",
            "neither": "Neither is twice the other, as far as this window tells: lower both, or run the toggle.",
        }
        return f"At this plateau {parts}, {noise}.", advice[self.larger]
