"""Critical sharpness: the curvature that limits the learning rate along a direction, by forward passes alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from sharpmin.core.rho import finite, positive_integer
from sharpmin.core.text import block
from sharpmin.optim._numeric.sums import inner

from .batches import Batches
from .objective import LossFn, Objective, like_gradient, looking

_FARTHER = 4.0  # factor of the next step while the loss is not above that at w, or not finite


@dataclass(frozen=True)
class CriticalSharpness:
    """The result of `critical_sharpness`.

    Attributes:
        value: 2 / lr.
        lr: the largest stable step along the direction: no shorter step raises the loss above that at w.
        bracket: the longest tried step that does not raise the loss, and the shortest that does.
        passes: over the data, one with gradient, the others forward only.
    """

    value: float
    lr: float
    bracket: tuple[float, float]
    passes: int

    def __str__(self) -> str:
        """The value, the step, its bracket and the passes.

        >>> print(CriticalSharpness(value=6.0, lr=1 / 3, bracket=(0.33, 0.335), passes=4))
        critical sharpness
          value    6              2 / lr
          lr       0.3333         the largest stable step
          bracket  0.33 to 0.335  longest step that does not raise the loss, shortest that does
          passes   4              over the data
        """
        rows = [
            ("value", self.value, "2 / lr"),
            ("lr", self.lr, "the largest stable step"),
            ("bracket", self.bracket, "longest step that does not raise the loss, shortest that does"),
            ("passes", self.passes, "over the data"),
        ]
        return block("critical sharpness", rows)


def critical_sharpness(
    model: nn.Module,
    loss_fn: LossFn,
    data: Iterable[Any],
    *,
    direction: Sequence[Tensor] | None = None,
    passes: int = 6,
    tol: float = 0.01,
) -> CriticalSharpness:
    """2 over the largest stable step along a direction u: lam_c = 2 / min {lr > 0 : L(w - lr u) > L(w)}.

    With u the gradient and L quadratic it is <u, H u> / <u, u>, the curvature along u; where it exceeds 2 / lr, the next step
    of gradient descent leads up. It needs no second derivative, so it works with fused attention, compiled models and what
    autograd cannot differentiate twice. The mean slope (L(w - s u) - L(w)) / s, on a quadratic a line over s, is followed to
    its zero: a quadratic is done after three points, elsewhere further ones close the bracket. Source: Kalra et al., A Scalable
    Measure of Loss Landscape Curvature for Analyzing the Training Dynamics of LLMs, 2026, arXiv:2601.16979.

    Read-only and in evaluation mode, as every probe of this module.

    Args:
        model: its parameters with `requires_grad` move along u; the others stay.
        loss_fn: `loss_fn(model(inputs), targets)` is the mean loss of a batch, of shape ().
        data: batches (inputs, targets) that can be gone over again in the same order; see `worst_loss`.
        direction: u, a tensor for each such parameter, such as minus the last update; else the gradient.
        passes: forward passes at most, >= 2.
        tol: the relative width of the bracket at which it stops, > 0.

    Returns:
        A `CriticalSharpness`.

    Raises:
        TypeError: if an argument has the wrong kind.
        ValueError: for numbers out of range, a direction that leads up or has other shapes, a loss that is not finite.

    >>> import torch
    >>> model = nn.Linear(1, 1, bias=False).double()
    >>> _ = nn.init.constant_(model.weight, 0.5)  # L(w) = 3 w^2, L'' = 6
    >>> three = lambda output, target: 3 * (output - target).square().mean()
    >>> found = critical_sharpness(model, three, [(torch.ones(4, 1).double(), torch.zeros(4, 1).double())])
    >>> round(found.value, 6), round(found.lr, 6)
    (6.0, 0.333333)
    """
    owner = "critical_sharpness"
    if positive_integer(passes, "passes", owner) < 2:
        raise ValueError(f"{owner}: passes={passes!r}; passes must be an integer >= 2")
    finite(tol, "tol", owner, low=0, strict=True)
    with looking(model, loss_fn, data, owner) as (objective, batches):
        base, slope = objective.start(batches)
        along = slope if direction is None else like_gradient(direction, slope, owner)
        down = float(inner(slope, along))
        if not down > 0:
            raise ValueError(f"{owner}: <gradient, direction> = {down:.3g}; it must be > 0, so that w - lr u leads down first")
        line = _Line(objective, batches, along, base, down)
        return line.search(float(inner(along, along)), passes, tol)


_Point = tuple[float, float]
"""A step s, and the mean slope of the loss up to there, (L(w - s u) - L(w)) / s: on a quadratic a line over s."""


@dataclass
class _Line:
    """The loss along w - s u."""

    objective: Objective
    batches: Batches
    along: Sequence[Tensor]
    base: float
    down: float

    def search(self, squared: float, passes: int, tol: float) -> CriticalSharpness:
        """Find the first step that raises the loss, by secants of the mean slope within the bracket."""
        behind = low = (0.0, -self.down)
        high, step, taken = (math.inf, math.inf), self.down / squared, 0
        best, slow = step, False
        while taken < passes and (math.isinf(high[0]) or high[0] - low[0] > tol * high[0]):
            taken, before = taken + 1, high[0] - low[0]
            point = step, self._slope(step)
            behind, low, high = (behind, low, point) if point[1] > 0 else (low, point, high)
            best = _secant(low, high) if math.isfinite(high[0]) else _secant(behind, low)
            slow = high[0] - low[0] > before / 2 and math.isfinite(before)  # then bisect
            above = high[0] - best > best - low[0]  # towards the farther bound: three points bracket a quadratic
            beside = best * (1 + (tol if above else -tol) / 4)
            step = _inside(0.0 if slow else beside, low[0], high[0])
        self.objective.held.home()
        lr = min(max(best, low[0]), high[0])
        return CriticalSharpness(2 / lr, lr, (low[0], high[0]), 1 + taken)

    def _slope(self, step: float) -> float:
        """The mean slope up to this step; infinite if the loss is not finite."""
        self.objective.held.move(self.along, -step)
        loss = self.objective.value(self.batches)
        return (loss - self.base) / step if math.isfinite(loss) else math.inf


def _secant(low: _Point, high: _Point) -> float:
    """The zero of the line through two points; inf if it does not rise; a shorter step if the upper loss is not finite."""
    if math.isinf(high[1]):
        return high[0] / _FARTHER
    bend = high[1] - low[1]
    return low[0] - low[1] * (high[0] - low[0]) / bend if bend > 0 else math.inf


def _inside(step: float, low: float, high: float) -> float:
    """This step if it is within the bounds, else their geometric mean, or a longer one if there is no upper bound."""
    if math.isinf(high):
        return min(step, _FARTHER * low) if step > low else _FARTHER * low
    if not low < step < high:
        return math.sqrt(low * high) if low else high / _FARTHER
    return step
