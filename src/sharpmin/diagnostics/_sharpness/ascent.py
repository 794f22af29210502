"""Projected ascents to the largest loss in a ball."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sharpmin.core.rho import finite, positive_integer
from sharpmin.core.text import block
from sharpmin.optim import Geometry

from .ball import Ball
from .batches import Batch
from .objective import Objective, check_seed

_SMALLEST = 2.0**-20  # of rho: an ascent ends when its steps are shorter


@dataclass(frozen=True)
class Sharpness:
    """The result of `worst_loss`.

    Attributes:
        base_loss: L(w).
        worst_loss: the largest L(w + e) found; inf if the loss is not finite at a point that was tried.
        radius: ||e|| there, as the dtype of the weights rounds it.
        restart: the number of the ascent that found it; 0 starts from SAM's point. None if no point was above L(w).
        rho: the radius of the ball.
    """

    base_loss: float
    worst_loss: float
    radius: float
    restart: int | None
    rho: float

    def __str__(self) -> str:
        """The losses, radius and restart.

        >>> print(Sharpness(base_loss=0.5, worst_loss=0.75, radius=0.05, restart=0, rho=0.05))
        worst loss within rho
          sharpness   0.25  worst_loss - base_loss
          base_loss   0.5   at w
          worst_loss  0.75  the largest found
          rho         0.05
          radius      0.05  ||e|| at the worst point
          restart     0     0 starts from SAM's point
        """
        rows = [
            ("sharpness", self.sharpness, "worst_loss - base_loss"),
            ("base_loss", self.base_loss, "at w"),
            ("worst_loss", self.worst_loss, "the largest found"),
            ("rho", self.rho),
            ("radius", self.radius, "||e|| at the worst point"),
            ("restart", self.restart, "0 starts from SAM's point"),
        ]
        return block("worst loss within rho", rows)

    @property
    def sharpness(self) -> float:
        """worst_loss - base_loss, never negative."""
        return self.worst_loss - self.base_loss


@dataclass(frozen=True)
class BallAscent:
    """Projected ascents in a ball, the first from SAM's point rho v, others from random points; the highest point counts.

    e <- P(e + length v), with v the unit vector of steepest ascent at w + e; the length starts at rho, doubles after a gain and
    halves otherwise, so no step loses.
    """

    rho: float
    geometry: Geometry
    steps: int
    restarts: int
    seed: int

    @classmethod
    def checked(cls, owner: str, rho: float, geometry: Geometry, steps: int, restarts: int, seed: int) -> BallAscent:
        """Check the arguments of a probe."""
        radius = finite(rho, "rho", owner, low=0)
        if not isinstance(geometry, Geometry):
            raise TypeError(f"{owner}: geometry={geometry!r}; give a Geometry, such as sharpmin.L2() or sharpmin.Elementwise()")
        positive_integer(steps, "steps", owner)
        positive_integer(restarts, "restarts", owner)
        check_seed(seed, owner)
        return cls(radius, geometry, steps, restarts, seed)

    def __call__(self, objective: Objective, batches: Iterable[Batch]) -> Sharpness:
        """Find the largest loss of `batches` in the ball; the weights are restored.

        Raises:
            ValueError: if the loss at w is not finite.
        """
        ball = Ball(self.geometry, objective.held.anchor, self.rho)
        generator = torch.Generator().manual_seed(self.seed)
        base, slope = objective.gradient(batches)
        if not math.isfinite(base):
            raise ValueError(
                f"{objective.owner}: the loss at the weights is {base}; it must be finite before anything is perturbed"
            )
        start = self._sam_point(ball, slope)
        del slope
        best = Sharpness(base, base, 0.0, None, self.rho)
        for number in range(self.restarts if self.rho else 0):
            steps = self.steps if start is None else self.steps - 1  # that point is one step from w
            top = _ascend(objective, batches, ball, ball.random(generator) if start is None else start, steps)
            start = None
            if top.loss > best.worst_loss:
                best = replace(best, worst_loss=top.loss, radius=top.radius, restart=number)
        objective.held.home()
        return best

    def _sam_point(self, ball: Ball, slope: list[Tensor]) -> list[Tensor] | None:
        """rho v; None if the gradient at w has no direction."""
        v = ball.steepest(slope)
        return None if v is None else [u * self.rho for u in v]


@dataclass(frozen=True)
class _Point:
    """A point of the ball: e, the loss and its gradient at w + e, and the realized ||e||."""

    e: list[Tensor]
    loss: float
    slope: list[Tensor]
    radius: float


def _ascend(objective: Objective, batches: Iterable[Batch], ball: Ball, e: list[Tensor], steps: int) -> _Point:
    """The highest point of the ascent from `e`."""
    best, length = _look(objective, batches, ball, e), ball.rho
    for _ in range(steps):
        v = ball.steepest(best.slope) if length >= _SMALLEST * ball.rho else None
        if v is None:
            break
        e = ball.project([a.add(b, alpha=length) for a, b in zip(best.e, v, strict=True)])
        there = _look(objective, batches, ball, e)
        best, length = (there, 2 * length) if there.loss > best.loss else (best, length / 2)
    return best


def _look(objective: Objective, batches: Iterable[Batch], ball: Ball, e: list[Tensor]) -> _Point:
    """Evaluate w + e; a loss that is not finite counts as infinite."""
    objective.held.move(e)
    radius = ball.norm(objective.held.moved())
    loss, slope = objective.gradient(batches)
    return _Point(e, loss if math.isfinite(loss) else math.inf, slope, radius)
