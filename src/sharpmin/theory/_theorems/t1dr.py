"""T1DR. T1d for any radii up to rho, chosen in any way: O(1/T^2) without logarithm, horizon, Delta or rho.

**Assumptions.** f is mu-strongly convex and beta-smooth; every step ascends by some rho_t in [0, rho], which may depend on the
past; lr_t = 2/(mu (t + t0)) with t0 = 4 beta/mu.

**Statement.** With C = 2 beta^4 rho^2/mu^3, as in T1d,

    f(x_T) - f* <= max{ Delta (t0/(T + t0))^3, C/(T - 1 + t0)^2 }.

The step of T1d's proof from t to t + 1 holds for each radius up to rho; see T1R. `rho` is the largest radius, or a schedule
whose largest value is used.

**Where it is attained.** As T1d, with rho_t = rho.

**For training.** Without noise, SAM converges to the optimum if the learning rate decays like 1/t, under any schedule of rho.

**Source.** Derived here; matches claim P1 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from sharpmin.core.extras import optional
from sharpmin.core.rho import RhoSchedule

from .._problems import problems
from .._simulation.lr import LRSchedule
from .._statements.cell import Cell
from .._statements.random_problems import random_problems
from .._statements.situation import STRONG
from .._statements.theorem import Theorem, register, scaled, without
from . import t1d
from .t1r import Rate, largest, runs

if TYPE_CHECKING:
    import numpy as np
else:
    np = optional("numpy", extra="lab")


def bound(*, beta: float, mu: float, rho: float | RhoSchedule, steps: int, delta: float) -> float:
    """max{Delta (t0/(T + t0))^3, C/(T - 1 + t0)^2}, with the largest radius."""
    return t1d.bound(beta=beta, mu=mu, rho=largest("t1dr", rho, steps), steps=steps, delta=delta)


def over_lanes(lr: LRSchedule, lanes: int) -> Rate:
    """The schedule of step sizes, the same on every lane."""
    return lambda t: np.full(lanes, lr(t))


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """Families and quadratics of curvature beta, near T1d's instances, each under four ways to choose the radii."""
    for trial in random_problems(theorem, "strongly-convex", quick=quick):
        f = trial.problem
        lr = t1d.step_size(beta=f.beta, mu=f.mu)
        for label, steps, gap in runs(f, trial.x0, over_lanes(lr, len(trial.rho)), trial.rho, (1, 10, 50)):
            at = partial(theorem.bound, beta=f.beta, mu=f.mu, steps=steps)
            yield from trial.compare(f"radii {label}, T {steps}", gap, lambda lr, at=at, **k: at(**k), trial.gap())
    quadratic = problems()["quadratic"](curvatures=[1.0])
    for kappa, rho, steps, x0 in ((1.0, 0.5, 1, 1e-9), (1.0, 0.05, 1000, 0.05), (2.0, 0.5, 1000, 0.5)):
        lr = t1d.step_size(beta=1.0, mu=1 / kappa)
        limit = theorem.bound(beta=1.0, mu=1 / kappa, rho=rho, steps=steps, delta=x0**2 / 2)
        for label, _, gap in runs(quadratic, np.array([x0]), over_lanes(lr, 1), np.array([rho]), (steps,)):
            where = f"curvature beta, kappa {kappa:g}, radii {label}, rho {rho:g}, T {steps}"
            yield Cell(where, float(gap[0]), "<=", limit)


T1DR = register(
    Theorem(
        id="t1dr",
        title="SAM, strongly convex, lr ~ 2/(mu t), any radii up to rho: O(1/T^2)",
        claims=("P1",),
        kind="upper",
        statement=__doc__,
        formula=bound,
        prescribed=t1d.step_size,
        check=check,
        example=STRONG,
        golden=(({"steps": 100}, max((40 / 140) ** 3, 2 * 0.25 / 1e-3 / 139**2)),),
        attained=True,
        mutants={
            "1 % lower": scaled(bound, 0.99),
            "no rho term": without(bound, rho=0.0),
            "rho^3 for rho^2": lambda **k: bound(**{**k, "rho": k["rho"] ** 1.5}),
            "T^3 for T^2": partial(t1d.power_bound, power=3),
        },
    )
)
