"""How much the loss rises within rho of the weights: over the whole data, or over groups of m samples."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from sharpmin.core.rho import finite, positive_integer
from sharpmin.optim.geometry import L2, Geometry

from ._ball import Ball
from ._batches import Batch, groups
from ._objective import LossFn, Objective, check_seed, looking

_SMALLEST = 2.0**-20  # of rho: an ascent that only gains with shorter steps than this is over


@dataclass(frozen=True)
class Sharpness:
    """What `worst_loss` found.

    Attributes:
        base_loss: L(w).
        worst_loss: the largest L(w + e) found; inf if the loss is not finite at a point that was tried.
        radius: ||e|| there, as the dtype of the weights rounds it.
        restart: which ascent found it, 0 being the one that starts from SAM's point; None if no point was above L(w).
        rho: the radius of the ball.
    """

    base_loss: float
    worst_loss: float
    radius: float
    restart: int | None
    rho: float

    @property
    def sharpness(self) -> float:
        """worst_loss - base_loss, never negative."""
        return self.worst_loss - self.base_loss


@dataclass(frozen=True)
class MSharpness:
    """What `m_sharpness` found.

    Attributes:
        base_loss: L(w), the mean over all samples.
        worst_loss: the mean over samples of their group's worst loss.
        m, groups: samples in a group, and how many groups.
        rho: the radius of the ball.
    """

    base_loss: float
    worst_loss: float
    m: int
    groups: int
    rho: float

    @property
    def sharpness(self) -> float:
        """worst_loss - base_loss, never negative."""
        return self.worst_loss - self.base_loss


def worst_loss(
    model: nn.Module,
    loss_fn: LossFn,
    data: Iterable[Any],
    *,
    rho: float,
    geometry: Geometry = L2(),  # noqa: B008  # frozen
    steps: int = 20,
    restarts: int = 3,
    seed: int = 0,
) -> Sharpness:
    """The largest loss within rho of the weights, max {L(w + e) : ||e|| <= rho}, from below.

    L is the mean over all samples of `data`. Projected ascent: e <- P(e + a v), with v the geometry's unit vector of steepest
    ascent at w + e and P the projection to the ball; a starts at rho, doubles after a gain and halves otherwise, so no step
    loses. The first ascent starts from SAM's point rho v(w), so the result is at least the one-step sharpness; the others
    start at random. `Elementwise(eta)` gives adaptive sharpness, its scale fixed by w. Sources: Foret et al.,
    Sharpness-Aware Minimization for Efficiently Improving Generalization, 2021, arXiv:2010.01412, eq. 1 (the maximum, and
    its first step); Keskar et al., On Large-Batch Training for Deep Learning, 2017, arXiv:1609.04836 (a box); Kwon et al.,
    ASAM, 2021, arXiv:2102.11600 (adaptive).

    Read-only: weights, gradients, buffers, modes and generators are afterwards what they were, bit for bit. The model is in
    evaluation mode meanwhile, so BatchNorm uses its running statistics and dropout is off. Costs at most
    1 + restarts (steps + 1) passes with gradient over `data`, and four times the weights in memory.

    Args:
        model: its parameters with `requires_grad` are perturbed, of any shapes; the others are left out.
        loss_fn: `loss_fn(model(inputs), targets)` is the mean loss of a batch, of shape ().
        data: batches (inputs, targets) that can be gone over again in the same order: a list, or a DataLoader that does not
            shuffle. A batch counts with its size, the first dimension of the targets. Tensors go to the model's device.
        rho: the radius, >= 0.
        geometry: the norm.
        steps: steps of each ascent, >= 1.
        restarts: ascents, >= 1.
        seed: of the random starts.

    Returns:
        A `Sharpness`.

    Raises:
        TypeError: if an argument has the wrong kind; for an iterator, complex or sharded weights, a loss that is no mean.
        ValueError: for numbers out of range, a loader that shuffles, no samples, a loss at w that is not finite.

    >>> model = nn.Linear(1, 1, bias=False).double()
    >>> _ = nn.init.constant_(model.weight, 0.5)  # L(w) = w^2
    >>> found = worst_loss(model, nn.MSELoss(), [(torch.ones(4, 1).double(), torch.zeros(4, 1).double())], rho=0.1)
    >>> round(found.base_loss, 6), round(found.worst_loss, 6), round(found.sharpness, 6), round(found.radius, 6)
    (0.25, 0.36, 0.11, 0.1)
    """
    climb = _Climb.checked("worst_loss", rho, geometry, steps, restarts, seed)
    with looking(model, loss_fn, data, "worst_loss") as (objective, batches):
        return climb(objective, batches)


def m_sharpness(
    model: nn.Module,
    loss_fn: LossFn,
    data: Iterable[Any],
    *,
    m: int,
    rho: float,
    geometry: Geometry = L2(),  # noqa: B008  # frozen
    steps: int = 1,
    restarts: int = 1,
    seed: int = 0,
) -> MSharpness:
    """The mean over groups S of m samples of max {L_S(w + e) : ||e|| <= rho} - L_S(w), each group with an e of its own.

    Groups are runs of m samples in the order of `data`, over the edges of batches if need be; a shorter last one counts with
    its size. The default, one step, is what SAM itself climbs with micro-batches of m, or 0 where that goes down; more steps
    and restarts bring each maximum closer, as in `worst_loss`, to which m = n is equal. Foret et al., Sharpness-Aware
    Minimization for Efficiently Improving Generalization, 2021, arXiv:2010.01412, section 4.1; Andriushchenko & Flammarion,
    Towards Understanding Sharpness-Aware Minimization, 2022, arXiv:2206.06232.

    Read-only and in evaluation mode, as `worst_loss`.

    Args:
        model, loss_fn, data: as in `worst_loss`.
        m: samples in a group, from 1 to their number n.
        rho, geometry, steps, restarts, seed: as in `worst_loss`; every group uses the same seed.

    Returns:
        An `MSharpness`.

    Raises:
        TypeError, ValueError: as in `worst_loss`; also if m is out of range.

    >>> model = nn.Linear(1, 1, bias=False)
    >>> _ = nn.init.zeros_(model.weight)  # losses (w - 1)^2 and (w + 1)^2: no slope together, much of it apart
    >>> data = [(torch.ones(2, 1), torch.tensor([[1.0], [-1.0]]))]
    >>> [round(m_sharpness(model, nn.MSELoss(), data, m=m, rho=0.1).sharpness, 4) for m in (1, 2)]
    [0.21, 0.01]
    """
    climb = _Climb.checked("m_sharpness", rho, geometry, steps, restarts, seed)
    positive_integer(m, "m", "m_sharpness")
    with looking(model, loss_fn, data, "m_sharpness") as (objective, batches):
        if m > batches.samples:
            raise ValueError(f"m_sharpness: m={m}; data has {batches.samples} samples, and m must be from 1 to their number")
        base, worst, count = 0.0, 0.0, 0
        for group, size in [(batches, m)] if m == batches.samples else groups(batches, m):
            found, share = climb(objective, group), size / batches.samples
            base, worst, count = base + share * found.base_loss, worst + share * found.worst_loss, count + 1
        return MSharpness(base, worst, m, count, climb.rho)


@dataclass(frozen=True)
class _Climb:
    """Projected ascents in a ball."""

    rho: float
    geometry: Geometry
    steps: int
    restarts: int
    seed: int

    @classmethod
    def checked(cls, owner: str, rho: float, geometry: Geometry, steps: int, restarts: int, seed: int) -> _Climb:
        radius = finite(rho, "rho", owner, low=0)
        if not isinstance(geometry, Geometry):
            raise TypeError(f"{owner}: geometry={geometry!r}; give a Geometry, such as sharpmin.L2() or sharpmin.Elementwise()")
        positive_integer(steps, "steps", owner)
        positive_integer(restarts, "restarts", owner)
        check_seed(seed, owner)
        return cls(radius, geometry, steps, restarts, seed)

    def __call__(self, objective: Objective, batches: Iterable[Batch]) -> Sharpness:
        ball = Ball(self.geometry, objective.held.anchor, self.rho)
        generator = torch.Generator().manual_seed(self.seed)
        base, slope = objective.gradient(batches)
        if not math.isfinite(base):
            raise ValueError(
                f"{objective.owner}: the loss at the weights is {base}; it must be finite before anything is perturbed"
            )
        best = Sharpness(base, base, 0.0, None, self.rho)
        first = ball.steepest(slope)
        del slope
        try:
            for number in range(self.restarts if self.rho else 0):
                sam = first if number == 0 else None
                start = ball.random(generator) if sam is None else [v * self.rho for v in sam]
                loss, radius = _ascend(objective, batches, ball, start, self.steps if sam is None else self.steps - 1)
                if loss > best.worst_loss:
                    best = replace(best, worst_loss=loss, radius=radius, restart=number)
        finally:
            objective.held.home()
        return best


def _ascend(objective: Objective, batches: Iterable[Batch], ball: Ball, start: list[Tensor], steps: int) -> tuple[float, float]:
    """The largest loss on the way up from `start`, and the norm where it is."""
    e, length = start, ball.rho
    loss, slope, radius = _look(objective, batches, ball, e)
    for _ in range(steps):
        if not math.isfinite(loss) or length < _SMALLEST * ball.rho:
            break
        v = ball.steepest(slope)
        if v is None:
            break
        there = ball.project([a.add(b, alpha=length) for a, b in zip(e, v, strict=True)])
        found = _look(objective, batches, ball, there)
        if found[0] > loss:
            e, (loss, slope, radius), length = there, found, 2 * length
        else:
            length /= 2
    return loss, radius


def _look(objective: Objective, batches: Iterable[Batch], ball: Ball, e: list[Tensor]) -> tuple[float, list[Tensor], float]:
    """Loss, gradient and the realised norm at w + e; a loss that is no number counts as infinite."""
    objective.held.move(e)
    radius = ball.norm(objective.held.moved())
    loss, slope = objective.gradient(batches)
    return (loss if math.isfinite(loss) else math.inf), slope, radius
