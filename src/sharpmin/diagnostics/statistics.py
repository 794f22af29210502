"""The statistics of a window, each a function of it, in the notation of its block means: g_a, D_a, window means gb, Db.

| name | formula | meaning |
|---|---|---|
| `cancelled` | - sum <g_a, D_b> / sum <g_a, g_b> over a != b | share of the gradient that SAM cancels; < 0: it helps |
| `p_value` | sign flips of D_a in U = sum <D_a, D_b> / (B (B - 1)) | whether D has a mean at all: a pre-filter |
| `drop` | sqrt(tau (1 - exp(-2 lam tau)) / (2 lam)) push | predicted fall of the loss within k steps of rho := 0 |
| `upper`, `lower` | tau push, (1 - exp(-2 b tau)) / (2 b) push | its bracket: no curvature, the largest that D shows |
| `amplified` | lr_eff a (mean ||g||^2 - ||gb||^2) / 4 | what the noise of the batches keeps up, as far as SAM amplifies it |
| `relief` | (1 - exp(-2 lam tau)) amplified | how much of that goes within k steps of rho := 0 |
| `amplification` | mean <D, g> / mean ||g||^2 | how much longer SAM's steps are along g: a noise floor rises with it |
| `bounce` | mean lr h (1 + <D, g> / ||g||^2), h = <D, g> / (rho ||g||) | 2 on a two-cycle |

push = - <gb, Db>, tau = lr_eff k, k = 3/16 of the window, lam = mean h, b = mean ||D|| / rho.

Relief: SGD at rest in a quadratic keeps the loss lr tr(C) / 4 above its minimum, C the covariance of the gradient, up to terms
in lr h. SAM's step is (I + rho H / ||g||) g, about (1 + a) g along the noise: drift grows by 1 + a, C by its square, so
the excess by 1 + a. With rho = 0 the share a of it goes away, at the rate 2 lam. For Adam ||g||^2 is <g, P^-1 g>.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from .window import Window

HORIZON = 3 / 16  # of the window: predictions beyond a quarter were wrong
FLIPS = 2000


@dataclass(frozen=True)
class Numbers:
    """What a verdict is made of; an interval is a 95 % jackknife over blocks. `None`: not determined.

    Attributes:
        p_value: of the mean difference, by sign flips.
        cancelled: kappa, with its interval.
        drop: predicted fall of the training loss within `horizon` steps of rho = 0, with its interval; `lower`, `upper`.
        amplified: what the noise keeps up because SAM amplifies it; `relief`: how much of that goes within `horizon` steps.
        fall: the whole prediction, drop + relief.
        horizon: k, in steps.
        amplification: a.
        bounce: S; `lag`: the cosine of one gradient and the next.
        curvature: lam; `smoothness`: b.
        ascending: ||mean G|| / ||mean g||: 0 where SAM is trapped; None if noise hides it.
        loss: the mean training loss of the window, if it was recorded.
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
    horizon: int
    amplification: float
    bounce: float
    lag: float | None
    curvature: float
    smoothness: float
    ascending: float | None
    loss: float | None

    @classmethod
    def of(cls, window: Window, seed: int = 0) -> Numbers:
        """All of them."""
        s = window.scalars
        drops, amplified = drop_of(window, window.gram[1]), amplified_of(window)
        relief = amplified * -math.expm1(-2 * _curvature(window) * _tau(window))
        return cls(
            p_value(window, seed),
            cancelled(*window.gram[:2]),
            _interval(window, cancelled),
            drops[0],
            _interval(window, lambda gg, gd: drop_of(window, gd)[0]) or (-math.inf, math.inf),
            drops[1],
            drops[2],
            amplified,
            relief,
            relief + drops[0],
            round(HORIZON * window.steps),
            amplification(window),
            s.get("bounce", 0.0),
            s.get("lag"),
            s.get("curvature", 0.0),
            _steepest(window),
            _ascending(window),
            s.get("loss"),
        )

    def asdict(self) -> dict[str, object]:
        """Plain values."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


def pairs(gram: Tensor) -> float:
    """The sum over a != b."""
    return float(gram.sum() - gram.trace())


def p_value(window: Window, seed: int = 0) -> float:
    """The share of sign flips of the block means D_a with a U as large as the one observed."""
    gram = window.gram[2]
    observed, blocks = pairs(gram), window.blocks
    if observed / (blocks * (blocks - 1)) <= 1e-12 * window.scalars["dd"]:
        return 1.0
    generator = torch.Generator("cpu").manual_seed(seed)
    bits = torch.randint(0, 2, (FLIPS, blocks), generator=generator, dtype=torch.float64, device="cpu")
    signs = bits * 2 - 1
    flipped = ((signs @ gram) * signs).sum(1) - gram.trace()
    return float((1 + (flipped >= observed * (1 - 1e-12)).sum()) / (1 + FLIPS))


def cancelled(gg: Tensor, gd: Tensor) -> float | None:
    """kappa; None where the window does not resolve the gradient."""
    whole = pairs(gg)
    return -pairs(gd) / whole if whole > 0 else None


def amplification(window: Window) -> float:
    """a; 0 without a gradient."""
    gg = window.scalars["gg"]
    return window.scalars["dg"] / gg if gg > 0 else 0.0


def amplified_of(window: Window) -> float:
    """The share of the noise floor that SAM's amplification adds; on a net an estimate within a factor of about 3."""
    s, blocks = window.scalars, window.blocks
    if window.pg is not None and "gpg" in s:
        mean, size, lr = pairs(window.g @ window.pg.T), s["gpg"], window.rate
    else:
        mean, size, lr = pairs(window.gram[0]), s["gg"], window.effective_lr
    noise = max(0.0, size - max(0.0, mean / (blocks * (blocks - 1))))
    return lr * noise * max(0.0, amplification(window)) / 4


def drop_of(window: Window, gd: Tensor) -> tuple[float, float, float]:
    """(drop, lower, upper) for a Gram matrix of g and D."""
    push, tau, curvature = -float(gd.mean()), _tau(window), _curvature(window)
    return math.sqrt(tau * _decayed(curvature, tau)) * push, _decayed(_steepest(window), tau) * push, tau * push


def _tau(window: Window) -> float:
    """The way of the horizon, in units of the gradient."""
    return window.effective_lr * HORIZON * window.steps


def _curvature(window: Window) -> float:
    """lam, not below 0."""
    return max(0.0, window.scalars.get("curvature", 0.0))


def _steepest(window: Window) -> float:
    """b, with ||e|| = rho unless the rows say otherwise."""
    own = window.scalars["norm_d"] / window.rho if window.rho else 0.0
    return window.scalars.get("steep", own)


def _decayed(rate: float, tau: float) -> float:
    """(1 - exp(-2 rate tau)) / (2 rate), tau for rate 0: how far a decaying force carries."""
    return -math.expm1(-2 * rate * tau) / (2 * rate) if rate * tau > 1e-12 else tau


def _interval(window: Window, statistic: Callable[[Tensor, Tensor], float | None]) -> tuple[float, float] | None:
    """95 %, by leaving out one block at a time."""
    gg, gd, _ = window.gram
    blocks = window.blocks
    full = statistic(gg, gd)
    values = []
    for out in range(blocks):
        kept = [a for a in range(blocks) if a != out]
        values.append(statistic(gg[kept][:, kept], gd[kept][:, kept]))
    known = [v for v in values if v is not None]
    if full is None or len(known) < blocks:
        return None
    mean = math.fsum(known) / blocks
    error = math.sqrt((blocks - 1) / blocks * math.fsum((v - mean) ** 2 for v in known))
    return full - 1.96 * error, full + 1.96 * error


def _ascending(window: Window) -> float | None:
    """||mean G|| / ||mean g|| over pairs of blocks; None where noise makes the squared one negative, beyond rounding."""
    gg, gd, dd = window.gram
    whole, big = pairs(gg), pairs(gg) + 2 * pairs(gd) + pairs(dd)
    return math.sqrt(max(0.0, big) / whole) if whole > 0 and big > -1e-3 * whole else None
