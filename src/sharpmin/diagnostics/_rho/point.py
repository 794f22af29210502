"""The numbers at one radius of a grid, from the steps that were tried there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sharpmin.core.text import block, brief

from .._run.statistics import cancelled, interval_of
from ..toggle import Difference
from .trial import StepNumbers


@dataclass(frozen=True)
class RhoPoint:
    """The numbers at one radius. g is the gradient at w, G that at w + e, D = d - g with d the descent gradient, by default G.

    Attributes:
        rho: the radius.
        losses: at w, one for each batch.
        cancelled: kappa = - sum <g_a, D_b> / sum <g_a, g_b> over pairs of different batches a != b: the share of the mean
            gradient that SAM's mean force cancels; 1: all of it, below 0: SAM speeds the descent up. None if the mean gradient
            is not distinguishable from noise.
        interval: of `cancelled`, 95 %, leaving out one batch at a time.
        rise: the mean of L(w + e) - L(w) on the same batch; None if `step` does not use a closure.
        cosine: the mean cosine of g and G on the same batch.
        amplification: mean <D, g> / mean ||g||^2, by how much SAM's gradient is longer along g.
        shares: ||e of a parameter||^2 / ||e||^2 by name, the mean over batches; they add up to 1.
        fall: how much lower the loss at w is than in the branch with rho = 0, over the second half of a short run.
    """

    rho: float
    losses: tuple[float, ...]
    cancelled: float | None = None
    interval: tuple[float, float] | None = None
    rise: float | None = None
    cosine: float | None = None
    amplification: float | None = None
    shares: dict[str, float] = field(default_factory=dict)
    fall: Difference | None = None

    def __repr__(self) -> str:
        return f"<RhoPoint: rho {brief(self.rho)}, loss {brief(math.fsum(self.losses) / len(self.losses))} at w>"

    def __str__(self) -> str:
        """The numbers at this radius.

        >>> print(RhoPoint(0.05, (0.5, 0.7), cancelled=0.25, interval=(0.2, 0.3), rise=0.01, cosine=0.98, shares={"w": 1.0}))
        rho = 0.05
          loss       0.6   at w, mean of 2 batches
          cancelled  0.25  95 %: 0.2 to 0.3
          rise       0.01  of the loss at w + e
          cosine     0.98  of g and G
          shares     1     parameters; the largest: w 100%
        """
        largest = sorted(self.shares.items(), key=lambda item: -item[1])[:3]
        fall = self.fall
        rows = [
            ("loss", math.fsum(self.losses) / len(self.losses), f"at w, mean of {len(self.losses)} batches"),
            ("cancelled", self.cancelled, "" if self.interval is None else f"95 %: {brief(self.interval)}"),
            ("rise", self.rise, "of the loss at w + e"),
            ("cosine", self.cosine, "of g and G"),
            ("amplification", self.amplification, "<D, g> / ||g||^2"),
            ("fall", fall and fall.mean, f"against rho = 0; 95 %: {brief(fall.interval)}" if fall else ""),
            (
                "shares",
                len(self.shares) or None,
                "parameters; the largest: " + ", ".join(f"{name} {share:.0%}" for name, share in largest),
            ),
        ]
        return block(f"rho = {brief(self.rho)}", rows)

    @classmethod
    def of(cls, rho: float, steps: Sequence[StepNumbers], without: Sequence[float] = ()) -> RhoPoint:
        """Compute the numbers from steps at one radius.

        Args:
            rho: the radius.
            steps: at the present weights, or along a short run, of which the second half counts.
            without: the losses of the branch with rho = 0 along the short run.
        """
        losses = tuple(one.loss for one in steps)
        counted = [one for one in steps[len(steps) // 2 if without else 0 :] if one.finite]
        kappa, interval = _cancelled(counted)
        known = all(map(math.isfinite, (*losses, *without)))
        squares = math.fsum(one.gg for one in counted)
        return cls(
            rho,
            losses,
            kappa,
            interval,
            _mean([one.perturbed - one.loss for one in counted if one.perturbed is not None]),
            _mean([one.cosine for one in counted if one.cosine is not None]),
            math.fsum(one.dg for one in counted) / squares if squares > 0 else None,
            _shares(counted),
            Difference.of(without, losses) if without and known else None,
        )

    @property
    def finite(self) -> bool:
        """Whether every loss is finite."""
        return all(map(math.isfinite, self.losses))


def _cancelled(steps: Sequence[StepNumbers]) -> tuple[float | None, tuple[float, float] | None]:
    """kappa, and its jackknife interval over batches."""
    if len(steps) < 2:
        return None, None
    g, d = (torch.stack([getattr(one, key) for one in steps]) for key in ("g", "d"))
    gg, gd = g @ g.T, g @ d.T
    full = cancelled(gg, gd)
    if len(steps) < 3:
        return full, None
    return full, interval_of(full, [cancelled(_without(gg, at), _without(gd, at)) for at in range(len(steps))])


def _without(gram: Tensor, at: int) -> Tensor:
    kept = [row for row in range(len(gram)) if row != at]
    return gram[kept][:, kept]


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _shares(steps: Sequence[StepNumbers]) -> dict[str, float]:
    """The mean share of each parameter; one that was not moved in a step has none there."""
    rows = [(one.moved, math.fsum(one.moved.values())) for one in steps]
    rows = [(moved, whole) for moved, whole in rows if whole > 0]
    names = list(dict.fromkeys(name for moved, _ in rows for name in moved))
    return {name: math.fsum(moved.get(name, 0.0) / whole for moved, whole in rows) / len(rows) for name in names}
