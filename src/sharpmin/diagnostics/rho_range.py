"""`rho_range`: which rho to try first, from a short test of a grid of radii on copies of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from sharpmin.core.jsonable import jsonable
from sharpmin.core.rho import finite, positive_integer
from sharpmin.core.text import brief, wrapped
from sharpmin.optim._effects.guard import require_free
from sharpmin.optim.sam import SAM

from ._branches import Step, aside
from ._rho.explain import sentences, table
from ._rho.point import RhoPoint
from ._rho.rules import Claims, claims
from ._rho.trial import RadiusTrial, StepNumbers
from ._run.ahead import scheduler_of
from ._run.watch import require_pair

RHOS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""The default grid, for the L2 geometry; radii closer than a factor of 2 rarely differ in validation."""

LEAST_BATCHES, LEAST_STEPS = 4, 20

Progress = Callable[[int, int], None]
"""A function of the gradient evaluations done so far, first 0, and of their total."""


@dataclass(frozen=True)
class RhoRange:
    """The result of `rho_range`; `print` it.

    Attributes:
        points: one for each radius, the smallest first.
        without: the losses at w of the branch with rho = 0 along the short run; none at the present weights.
        steps: the length of the short run; None at the present weights.
        claims: what the rules say for this run.
        evaluations: the number of gradients computed, two for each step with rho > 0.
    """

    points: tuple[RhoPoint, ...]
    without: tuple[float, ...]
    steps: int | None
    claims: Claims
    evaluations: int

    @property
    def no_effect(self) -> float | None:
        """The largest radius up to which no radius of the grid has a measurable effect, or None."""
        return self.claims.no_effect

    @property
    def collapse(self) -> float | None:
        """The smallest radius at which the run would collapse; None if none would, or where `claims.told` is False."""
        return self.claims.collapse

    @property
    def first(self) -> float:
        """The value to try first; `claims.reason` says why."""
        return self.claims.first

    def explain(self) -> str:
        """A table with a line for each radius, and the claims as sentences."""
        run, count = self.steps is not None, len(self.points[0].losses)
        said = sentences(self.claims, [point.rho for point in self.points], count, run=run)
        return "\n".join([*table(self.points, run=run), "", *said])

    def __repr__(self) -> str:
        ends = brief((self.points[0].rho, self.points[-1].rho))
        return f"<RhoRange: {len(self.points)} radii from {ends}; the value to try first is {brief(self.first)}>"

    def __str__(self) -> str:
        return "\n".join(line for text in self.explain().split("\n") for line in wrapped(text) or [""])

    def record(self) -> dict[str, Any]:
        """The result as plain values for JSON; numbers that are not finite become None."""
        whole: dict[str, Any] = jsonable(asdict(self))
        return whole


def evaluations(rhos: int, steps: int, *, run: bool) -> int:
    """How many gradients a test costs: two a step at each radius, and a branch with rho = 0 along a short run.

    >>> evaluations(8, 100, run=True), evaluations(8, 8, run=False)
    (1700, 128)
    """
    return (2 * rhos + run) * steps


def rho_range(
    model: nn.Module,
    opt: SAM,
    step: Step,
    batches: Sequence[Any],
    *,
    rhos: Iterable[float] = RHOS,
    steps: int | None = None,
    scheduler: Any = None,
    every: int = 1,
    progress: Progress | None = None,
) -> RhoRange:
    """Try a grid of radii on copies of a run: what each does to the gradient and the loss, and where a short run collapses.

    With g the gradient at w, G that at w + e, where e is the perturbation of length rho in the geometry of `opt`, and D = G - g
    what SAM adds: the share kappa = - <mean g, mean D> / ||mean g||^2 of the mean gradient that SAM cancels, estimated without
    bias from pairs of different batches; the rise L(w + e) - L(w); the cosine of g and G; the share of each parameter in
    ||e||^2. Gradients are kept as sketches of 1024 numbers: kappa is off by about ||mean D|| / (32 ||mean g||), and by
    nothing for a model of fewer than 256 weights.

    Without `steps`, every radius is tried at the present weights, on every batch from a copy of its own. With `steps`, a copy
    trains for so many steps at each radius, and one with rho = 0, all on the same batches; only that tells a collapse. The
    run itself is left as it is, bit for bit, and the random generators of torch, NumPy and Python are put back.

    Source of SAM and of the usual 0.05: Foret, Kleiner, Mobahi & Neyshabur, Sharpness-Aware Minimization for Efficiently
    Improving Generalization, ICLR 2021, arXiv:2010.01412. How far the claims hold: docs/rho.md.

    Args:
        model: the model; it is copied together with `opt`, and neither changes.
        opt: its `sharpmin.SAM`. Each radius replaces its rho: a schedule keeps its shape, groups keep their ratio.
        step: does what one step of the run does, `step(model, opt, batch)` with the copies, and returns the loss at w; the
            same as for `toggle`. If it does not call `opt.step(closure)`, the loss at w + e is not known.
        batches: the batches of the steps, in order; at least 4, and at least `steps`.
        rhos: the grid, numbers > 0.
        steps: of a short run, at least 20; None to stay at the present weights.
        scheduler: the learning rate scheduler of the run, of torch: every short run has a copy of its own.
        every: the number of steps between two calls of the scheduler.
        progress: called with the gradient evaluations done so far and their total, first with 0.

    Returns:
        The `RhoRange`.

    Raises:
        TypeError: if an argument has the wrong kind, the run cannot be copied, or `step` returns no loss.
        ValueError: if numbers are out of range, there are too few batches, no weight of `opt` can be trained or belongs to
            the model, `opt` has no two gradients to compare, or no batch gave two.
        PhaseError: if a SAM holds the weights perturbed.

    >>> import torch
    >>> w = torch.nn.Linear(1, 1, bias=False).double()
    >>> _ = torch.nn.init.constant_(w.weight, 2.0)
    >>> opt = SAM(torch.optim.SGD(w.parameters(), lr=0.1), rho=0.5)
    >>> def step(model, opt, x):
    ...     def closure():
    ...         opt.zero_grad()
    ...         loss = (model(x) ** 2).mean() / 2  # w^2 / 2: g = 2, G = 2 + rho, kappa = -rho / 2
    ...         loss.backward()
    ...         return loss
    ...     return opt.step(closure)
    >>> found = rho_range(w, opt, step, [torch.ones(1, 1).double()] * 4, rhos=(0.1, 1.0))
    >>> [(p.rho, round(p.cancelled, 6), round(p.rise, 6), p.shares) for p in found.points]
    [(0.1, -0.05, 0.205, {'weight': 1.0}), (1.0, -0.5, 2.5, {'weight': 1.0})]
    """
    grid = _grid(rhos)
    fed = _checked(model, opt, batches, steps)
    inner = None if scheduler is None else scheduler_of(scheduler, "rho_range")
    positive_integer(every, "every", "rho_range")
    whole, done = evaluations(len(grid), len(fed), run=steps is not None), 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        if progress is not None:
            progress(done, whole)

    count(0)
    tried = _Tried(model, opt, step, fed, inner, every, count)
    without = tuple(one.loss for one in tried.run(0.0)) if steps is not None else ()
    points = tuple(RhoPoint.of(rho, tried.here(rho) if steps is None else tried.run(rho), without) for rho in grid)
    if all(point.cosine is None and point.finite for point in points):
        raise ValueError(
            "rho_range: no batch gave two gradients: the gradient or the radius of every group is 0 here; try other weights, "
            "or a SAM whose rho is positive now: opt.rho = 0.05"
        )
    return RhoRange(points, without, steps, claims(points, without), whole)


@dataclass(frozen=True)
class _Tried:
    """Runs steps on copies of one run, at any radius."""

    model: nn.Module
    opt: SAM
    step: Step
    batches: Sequence[Any]
    scheduler: Any
    every: int
    count: Callable[[int], None]

    def here(self, rho: float) -> list[StepNumbers]:
        """One step from the present weights on every batch, each on a new copy."""
        seen = []
        with aside(self.opt):
            for batch in self.batches:
                seen.append(RadiusTrial(self.model, self.opt, None, rho, "rho_range").take(self.step, batch))
                self.count(2)
        return seen

    def run(self, rho: float) -> list[StepNumbers]:
        """A copy that trains on all batches."""
        seen = []
        with aside(self.opt):
            trial = RadiusTrial(self.model, self.opt, self.scheduler, rho, "rho_range")
            for number, batch in enumerate(self.batches, 1):
                seen.append(trial.take(self.step, batch, watched=number > len(self.batches) // 2))
                if number % self.every == 0:
                    trial.ahead()
                self.count(2 if rho else 1)
        return seen


def _grid(rhos: Iterable[float]) -> list[float]:
    if not isinstance(rhos, Iterable):
        raise TypeError(f"rho_range: rhos={rhos!r} is a {type(rhos).__name__}; give several radii, such as rhos=(0.05, 0.2)")
    grid = sorted({finite(rho, "rhos", "rho_range", low=0, strict=True) for rho in rhos})
    if not grid:
        raise ValueError("rho_range: rhos is empty; give at least one radius > 0, such as rhos=(0.02, 0.05, 0.1, 0.2)")
    return grid


def _checked(model: object, opt: object, batches: Any, steps: int | None) -> list[Any]:
    """Check the arguments; returns the batches to use."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"rho_range: model is a {type(model).__name__}; give the torch.nn.Module of the run")
    if not isinstance(opt, SAM):
        raise TypeError(f"rho_range: opt is a {type(opt).__name__}; give the sharpmin.SAM of the run")
    require_pair(opt, "rho_range")
    own = {id(p) for p in model.parameters()}
    weights = [p for group in opt.param_groups for p in group["params"]]
    require_free(weights, "rho_range()")
    if not any(id(p) in own for p in weights):
        raise ValueError("rho_range: opt trains no parameter of model; give the model whose parameters opt was made with")
    if not any(p.requires_grad for p in weights):
        raise ValueError("rho_range: no weight of opt requires a gradient; call requires_grad_() on those to train")
    if not isinstance(batches, Sequence):
        raise TypeError(
            f"rho_range: batches is a {type(batches).__name__}, and every radius sees the same ones in order; give a list, "
            "such as list(loader)"
        )
    if steps is None:
        if len(batches) < LEAST_BATCHES:
            raise ValueError(
                f"rho_range: {len(batches)} batches; at least {LEAST_BATCHES} are needed to tell a mean from noise"
            )
        return list(batches)
    if positive_integer(steps, "steps", "rho_range") < LEAST_STEPS:
        raise ValueError(f"rho_range: steps={steps}; at least {LEAST_STEPS} are needed to tell a difference from noise")
    if len(batches) < steps:
        raise ValueError(f"rho_range: {len(batches)} batches for steps={steps}; give a batch for every step, or fewer steps")
    return list(batches[:steps])
