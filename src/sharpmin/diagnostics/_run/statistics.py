"""The statistics of a window, each a function of it, in the notation of its block means: g_a, D_a, window means gb, Db.

| name | formula | meaning |
|---|---|---|
| `cancelled` | - sum <g_a, D_b> / sum <g_a, g_b> over a != b | share of the gradient that SAM cancels; < 0: it helps |
| `p_value` | sign flips of D_a in U = sum <D_a, D_b> / (B (B - 1)) | whether D has a mean at all: a pre-filter |
| `drop` | sqrt(tau (1 - exp(-2 lam tau)) / (2 lam)) push | predicted fall of the loss within k steps of rho = 0 |
| `upper`, `lower` | tau push, (1 - exp(-2 b tau)) / (2 b) push | bounds of `drop`: no curvature, and the largest that D shows |
| `amplified` | lr a (mean ||g||^2 - ||gb||^2) / 4 | the loss that SAM adds by amplifying the noise of the batches |
| `relief` | (1 - exp(-2 lam tau)) amplified at a constant lr | the part of it that vanishes within k steps of rho = 0 |
| `amplification` | mean <D, g> / mean ||g||^2 | how much longer SAM's steps are along g: a noise floor rises with it |
| `bounce` | mean lr h (1 + <D, g> / ||g||^2), h = <D, g> / (rho ||g||) | 2 on a two-cycle |

push = - <gb, Db>, tau = lr_eff k, k = 3/16 of the window, lam = mean h, b = mean ||D|| / rho.

Relief: stationary SGD on a quadratic keeps the loss lr tr(C) / 4 above its minimum, C the gradient's covariance, up to terms
in lr h. SAM's step is (I + rho H / ||g||) g, about (1 + a) g along the noise: drift grows by 1 + a, C by its square, so
the excess by 1 + a. With rho = 0 the share a of it vanishes, at the rate 2 lam (`_relief` where lr moves). For Adam ||g||^2
is <g, P^-1 g>.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from sharpmin.core.text import block, brief

from .window import Window

FLIPS = 2000
LEFT = 0.9  # share of the first block's loss above which a run has not left its start

_WORDS = {
    "p_value": "of the mean of D, by sign flips",
    "cancelled": "share of the mean gradient that SAM cancels",
    "drop": "of the loss within the horizon of rho = 0, by SAM's mean force",
    "lower": "bound of drop",
    "upper": "bound of drop",
    "amplified": "loss above the minimum that comes from SAM's amplification of noise",
    "relief": "the part of it that vanishes within the horizon",
    "fall": "drop + relief",
    "horizon": "steps",
    "amplification": "mean <D, g> / mean ||g||^2",
    "bounce": "2 on a two-cycle",
    "lag": "cosine of one gradient and the next",
    "curvature": "along e",
    "smoothness": "mean ||D|| / rho",
    "edge": "curvature beyond which SAM's steps increase the loss",
    "ascending": "||mean G|| / ||mean g||",
    "loss": "mean of the newest block",
    "start": "mean loss of the first block of the run",
}
"""Number -> what it is, in the order of `print`."""


@dataclass(frozen=True)
class Numbers:
    """The numbers of a verdict; intervals are 95 % jackknife intervals over blocks. `None`: not determined.

    Attributes:
        p_value: of the mean difference, by sign flips.
        cancelled: kappa; `cancelled_interval`.
        drop: predicted fall of the training loss within `horizon` steps of rho = 0, by SAM's force; `drop_interval`;
            `lower` and `upper` are the same at the steepest curvature that was seen, and at none.
        amplified: the loss above the minimum that comes from SAM's amplification of batch noise; `relief`: the part of it
            that vanishes within `horizon` steps.
        fall: the whole prediction, drop + relief; `fall_interval`.
        horizon: k, in steps.
        amplification: a.
        bounce: S; `lag`: the cosine of one gradient and the next.
        curvature: lam; `smoothness`: b; `edge`: lam*, the curvature beyond which SAM's steps increase the loss
            (`edge_of_stability`), None for bases other than SGD.
        ascending: ||mean G|| / ||mean g||: 0 where SAM is trapped; None if noise hides it.
        loss: the mean training loss of the newest block, if it was recorded; `start`: that of the first block of the run.
    """

    p_value: float
    cancelled: float | None
    cancelled_interval: tuple[float, float] | None
    drop: float
    drop_interval: tuple[float, float]
    lower: float
    upper: float
    amplified: float
    relief: float
    fall: float
    fall_interval: tuple[float, float]
    horizon: int
    amplification: float
    bounce: float
    lag: float | None
    curvature: float
    smoothness: float
    edge: float | None
    ascending: float | None
    loss: float | None
    start: float | None

    def __repr__(self) -> str:
        return f"<Numbers: loss {brief(self.loss)}, predicted fall {brief(self.fall)} within {self.horizon} steps of rho = 0>"

    def __str__(self) -> str:
        intervals = {"cancelled": self.cancelled_interval, "drop": self.drop_interval, "fall": self.fall_interval}
        told = {k: f"; 95 %: {brief(v)}" for k, v in intervals.items() if v is not None and all(map(math.isfinite, v))}
        rows = [(name, getattr(self, name), words + told.get(name, "")) for name, words in _WORDS.items()]
        return block("numbers of a window", rows)

    @classmethod
    def of(cls, window: Window, seed: int = 0) -> Numbers:
        """Compute the numbers of a window."""
        s, now = window.scalars, Statistics.of(window)
        without = [Statistics.of(window.without(number)) for number in range(window.blocks)]
        return cls(
            p_value(window, seed),
            now.cancelled,
            interval_of(now.cancelled, [one.cancelled for one in without]),
            now.drop,
            interval_of(now.drop, [one.drop for one in without]) or (-math.inf, math.inf),
            now.lower,
            now.upper,
            now.amplified,
            now.relief,
            now.fall,
            interval_of(now.fall, [one.fall for one in without]) or (-math.inf, math.inf),
            window.horizon,
            amplification(window),
            s.get("bounce", 0.0),
            s.get("lag"),
            s.get("curvature", 0.0),
            _steepest(window),
            s.get("edge"),
            _ascending(window),
            window.parts[-1].scalars.get("loss"),
            window.start,
        )

    @property
    def attainable(self) -> float:
        """The predicted fall, at most the loss itself, which is assumed to stay positive if it is positive."""
        return min(self.fall, self.loss) if self.loss is not None and self.loss > 0 else self.fall

    @property
    def at_start(self) -> bool:
        """Whether the loss is still close to that of the first block; then SAM is never called free."""
        return self.start is not None and self.loss is not None and self.loss >= LEFT * self.start

    @property
    def resolved(self) -> float | None:
        """kappa, if the window resolves it: its interval is narrower than 1, or than kappa."""
        if self.cancelled is None or self.cancelled_interval is None:
            return None
        low, high = self.cancelled_interval
        return self.cancelled if high - low < max(1.0, abs(self.cancelled)) else None

    def asdict(self) -> dict[str, object]:
        """The numbers as a dict of plain values."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


@dataclass(frozen=True)
class Statistics:
    """The statistics that are recomputed without each of the blocks, for their intervals."""

    cancelled: float | None
    drop: float
    lower: float
    upper: float
    amplified: float
    relief: float

    @classmethod
    def of(cls, window: Window) -> Statistics:
        """Compute the statistics of a window."""
        gg, gd, _ = window.gram
        push, tau = -window.duty * float(gd.mean()), window.tau * scaling(window)
        curvature = max(0.0, window.scalars.get("curvature", 0.0))
        amplified = amplified_of(window)
        return cls(
            cancelled(gg, gd),
            math.sqrt(tau * _decayed(curvature, tau)) * push,
            _decayed(_steepest(window), tau) * push,
            tau * push,
            amplified,
            _relief(window, amplified, curvature * tau),
        )

    @property
    def fall(self) -> float:
        """The whole predicted fall: drop + relief."""
        return self.drop + self.relief


def pairs(gram: Tensor) -> float:
    """The sum over pairs a != b."""
    return float(gram.sum() - gram.trace())


def p_value(window: Window, seed: int = 0) -> float:
    """The share of sign flips of the block means D_a with a U as large as the one observed."""
    gram, blocks = window.gram[2], window.blocks
    observed = pairs(gram)
    if observed / (blocks * (blocks - 1)) <= 1e-12 * window.scalars["dd"]:
        return 1.0
    generator = torch.Generator("cpu").manual_seed(seed)
    bits = torch.randint(0, 2, (FLIPS, blocks), generator=generator, dtype=torch.float64, device="cpu")
    signs = bits * 2 - 1
    flipped = ((signs @ gram) * signs).sum(1) - gram.trace()
    return float((1 + (flipped >= observed * (1 - 1e-12)).sum()) / (1 + FLIPS))


def cancelled(gg: Tensor, gd: Tensor) -> float | None:
    """kappa; None if the mean gradient is not distinguishable from noise."""
    whole = pairs(gg)
    return -pairs(gd) / whole if whole > 0 else None


def amplification(window: Window) -> float:
    """a; 0 without a gradient."""
    gg = window.scalars["gg"]
    return window.scalars["dg"] / gg if gg > 0 else 0.0


def scaling(window: Window) -> float:
    """The factor of the base along the mean difference, in units of lr / (1 - momentum): 1 for SGD, by P for Adam."""
    if not window.has("pd"):
        return 1.0
    g, d, pd = map(window.sketches, ("g", "d", "pd"))
    whole = float(g.mean(0) @ d.mean(0))
    return abs(float(g.mean(0) @ pd.mean(0)) / whole) if whole else 0.0


def amplified_of(window: Window) -> float:
    """The share of the noise floor that SAM's amplification adds; on a net an estimate within a factor of about 3."""
    s, blocks = window.scalars, window.blocks
    if window.has("pg") and "gpg" in s:
        g, pg = window.sketches("g"), window.sketches("pg")
        mean, size, lr = pairs(g @ pg.T), s["gpg"], window.rate
    else:
        mean, size, lr = pairs(window.gram[0]), s["gg"], window.rate * scaling(window)
    noise = max(0.0, size - max(0.0, mean / (blocks * (blocks - 1))))
    return window.duty * window.coming * lr * noise * max(0.0, amplification(window)) / 4


def _relief(window: Window, amplified: float, way: float) -> float:
    """The part of `amplified` that vanishes within the horizon, with `way` = lam tau.

    Let A be the floor without SAM at the present learning rate, and c A at the coming ones. The loss goes from (1 + a) A
    to c (1 + a) A with rho, at the rate 2 lam (1 + a), and to c A without, at the rate 2 lam. Just after a drop of the
    learning rate, c << 1, the loss falls faster with SAM.
    """
    a, c = max(0.0, amplification(window)), window.coming
    if not a > 0 or not c > 0:
        return 0.0
    floor, without, with_rho = amplified / (a * c), -math.expm1(-2 * way), -math.expm1(-2 * (1 + a) * way)
    return floor * (c * ((1 + a) * with_rho - without) - (1 + a) * (with_rho - without))


def _steepest(window: Window) -> float:
    """b, with ||e|| = rho unless the rows have the realized ||e||."""
    own = window.scalars["norm_d"] / window.rho if window.rho else 0.0
    return window.scalars.get("steep", own)


def _decayed(rate: float, tau: float) -> float:
    """(1 - exp(-2 rate tau)) / (2 rate), or tau for rate 0."""
    return -math.expm1(-2 * rate * tau) / (2 * rate) if rate * tau > 1e-12 else tau


def interval_of(full: float | None, without: Sequence[float | None]) -> tuple[float, float] | None:
    """The 95 % jackknife interval, from the values with each block left out."""
    known = [value for value in without if value is not None]
    if full is None or len(known) < len(without):
        return None
    blocks, mean = len(known), math.fsum(known) / len(known)
    error = math.sqrt((blocks - 1) / blocks * math.fsum((v - mean) ** 2 for v in known))
    return full - 1.96 * error, full + 1.96 * error


def _ascending(window: Window) -> float | None:
    """||mean G|| / ||mean g|| over pairs of blocks; None if noise makes the estimate of a square negative."""
    gg, gd, dd = window.gram
    whole, big = pairs(gg), pairs(gg) + 2 * pairs(gd) + pairs(dd)
    return math.sqrt(max(0.0, big) / whole) if whole > 0 and big > -1e-3 * whole else None
