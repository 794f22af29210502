"""ANY-RATE. SAM on smooth nonconvex functions with step sizes and radii that vary in any way from step to step.

**Assumptions.** f is beta-smooth and bounded below; full gradients; 0 < lr_t <= 1/beta; radii rho_t >= 0, which may depend on
the past. No horizon, no monotone decay.

**Statement.** With u_t = ||grad f(x_t)||,

    sum_{t<T} lr_t u_t^2 <= 2 Delta + beta^2 sum_{t<T} lr_t rho_t^2.

Proof. With G = grad f(y), smoothness and lr <= 1/beta give f(x+) <= f(x) + (lr/2)(||G - grad f(x)||^2 - u^2), and
||G - grad f(x)|| <= beta rho. Sum over t.

So if sum lr_t = inf and sum lr_t rho_t^2 < inf, then liminf u_t = 0; with bounded radii u_t -> 0, and every
accumulation point of x_t is stationary. Otherwise u_t would rise from e to 2e infinitely often, and in each rise
e <= beta sum lr_t (u_t + beta rho_t) <= beta (1/e + beta max rho_t/e^2) sum lr_t u_t^2, sums over that rise; they tend to 0.

**Where it is attained.** On a quadratic of curvature beta at lr = 1/beta, under any radii, but for the last of them; and, up to
(1 - 2 theta)^2, on TRAP with constant rho at any step sizes, as sum lr_t grows.

**For training.** The floor is beta^2 times the mean of rho_t^2 weighted by lr_t. Constant rho leaves beta^2 rho^2 under every
schedule of lr; with rho_t -> 0, however slowly, no floor is left.

**Source.** Derived here; matches claim P7 of Si & Yun (NeurIPS 2023, arXiv:2306.09850). Stationary accumulation points and
vanishing gradients of SAM are the subject of Khanh et al. (NeurIPS 2024, arXiv:2401.08060), of which the abstract only was
read: their assumptions may differ.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from sharpmin.core.extras import optional
from sharpmin.core.reference import KHANH_2024, SI_YUN_2023
from sharpmin.core.rho import Constant, Cosine, Every, InverseSqrt, RhoSchedule, StepInfo, as_schedule

from .._problems import problems
from .._problems.problem import Problem
from .._simulation.lr import InverseTime, LRSchedule
from .._statements.assume import require, step_below
from .._statements.cell import Cell
from .._statements.random_problems import random_problems
from .._statements.situation import CONVEX
from .._statements.theorem import Theorem, register, scaled
from .t1r import step

if TYPE_CHECKING:
    import numpy as np

    from .._problems.problem import Array
else:
    np = optional("numpy", extra="lab")

Pair = tuple[float | LRSchedule, RhoSchedule]
"""A pair of schedules: step sizes and radii over time."""


def bound(*, beta: float, lr: float | LRSchedule, rho: float | RhoSchedule, steps: int, delta: float) -> float:
    """2 Delta + beta^2 sum lr_t rho_t^2; a bound on the sum over t < T of lr_t ||grad f(x_t)||^2."""
    return power_bound(beta=beta, lr=lr, rho=rho, steps=steps, delta=delta, power=2)


def power_bound(
    *, beta: float, lr: float | LRSchedule, rho: float | RhoSchedule, steps: int, delta: float, power: int
) -> float:
    """The bound with another power of the radii; the statement has 2."""
    rates, schedule = step_sizes(lr, steps), as_schedule(rho, "any-rate")
    require(min(rates) > 0, "any-rate", f"lr={lr!r} has a step size that is not > 0")
    step_below("any-rate", max(rates), 1 / beta, "1/beta", strict=False)
    radii = [float(schedule(StepInfo(t, rate, 0.0))) for t, rate in enumerate(rates)]
    blind = radii == [float(schedule(StepInfo(t, rate, 1e300))) for t, rate in enumerate(rates)]
    require(blind, "any-rate", f"rho={rho!r} depends on the gradient; use a schedule of the step and of lr")
    return 2 * delta + beta**2 * math.fsum(rate * radius**power for rate, radius in zip(rates, radii, strict=True))


def step_sizes(lr: float | LRSchedule, steps: int) -> list[float]:
    """lr_t for t < T."""
    return [float(lr(t)) if callable(lr) else lr for t in range(steps)]


class Power:
    """lr_t = lr/(t + 1)^power.

    >>> Power(0.5, 0.5)(3)
    0.25
    """

    def __init__(self, lr: float, power: float) -> None:
        self.lr, self.power = lr, power

    def __call__(self, step: int) -> float:
        """The step size at `step`."""
        return self.lr / float((step + 1) ** self.power)

    def __repr__(self) -> str:
        return f"{self.lr:.3g}/(t + 1)^{self.power:g}"


def weighted(f: Problem, rates: Array, radii: Array, x: Array) -> Array:
    """The sum over t < T of lr_t ||grad f(x_t)||^2 along SAM, per lane; rates and radii of shape (T, lanes)."""
    total = np.zeros(len(x))
    for lr, rho in zip(rates, radii, strict=True):
        total += lr * f.norm(f.gradient(x)) ** 2
        x = step(f, x, lr, rho)
    return total


def cells(theorem: Theorem, f: Problem, pairs: Sequence[Pair], x: Array, steps: int) -> Iterator[Cell]:
    """One cell per pair of schedules; all pairs run in one simulation."""
    rates = np.array([step_sizes(lr, steps) for lr, _ in pairs]).T
    radii = np.array([[rho(StepInfo(t, lr)) for t, lr in enumerate(rates[:, i])] for i, (_, rho) in enumerate(pairs)]).T
    found, gaps = weighted(f, rates, radii, x), f.gap(x)
    for i, (lr, rho) in enumerate(pairs):
        delta = float(gaps[i])
        limit = theorem.bound(beta=f.beta, lr=lr, rho=rho, steps=steps, delta=delta)
        known = 2 * f.beta * delta * float(rates[:, i].sum())
        yield Cell(f"{f.name}: lr {lr}, {rho}, T {steps}", float(found[i]), "<=", limit, trivial=known)


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """Nonconvex families under pairs of schedules; a quadratic at lr 1/beta; the trap under a falling lr."""
    for trial in random_problems(theorem, "nonconvex", quick=quick, settings=4):
        beta, r = trial.problem.beta, [float(v) for v in trial.rho]
        pairs: list[Pair] = [
            (Power(1 / beta, 0.75), InverseSqrt(r[0])),
            (InverseTime(beta, 2.0), Cosine(r[1], steps=60)),
            (float(trial.lr[2]), Every(r[2], k=7)),
            (Power(0.7 / beta, 0.25), Constant(r[3])),
        ]
        yield from cells(theorem, trial.problem, pairs, trial.x0, 100)
    quadratic = problems()["quadratic"](curvatures=[2.0])
    yield from cells(theorem, quadratic, [(0.5, Constant(rho)) for rho in (0.3, 1.5)], np.ones(2), 400)
    trap = problems()["trap"](theta=0.0005, beta=2.0, rho=0.5)
    yield from cells(theorem, trap, [(Power(0.5, 0.25), Constant(0.5))], np.zeros(1), 1500)


ANY_RATE = register(
    Theorem(
        id="any-rate",
        title="SAM, nonconvex: one bound for any step sizes and any radii",
        claims=("P7",),
        kind="upper",
        statement=__doc__,
        formula=bound,
        check=check,
        example={**CONVEX, "lr": 0.5},
        golden=(
            ({}, 2 + 125),
            ({"steps": 3, "rho": InverseSqrt(0.5), "lr": InverseTime(2.0, 1.0)}, 2 + 0.25 * (1 + 1 / 4 + 1 / 9)),
        ),
        attained=True,
        mutants={
            "1 % lower": scaled(bound, 0.99),
            "no rho term": lambda **k: bound(**{**k, "rho": 0.0}),
            "rho for rho^2": lambda **k: power_bound(**k, power=1),
            "rho^3 for rho^2": lambda **k: power_bound(**k, power=3),
        },
        references=(SI_YUN_2023, KHANH_2024),
    )
)
