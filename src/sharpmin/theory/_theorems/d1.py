"""D1. With a decaying rho deterministic SAM converges to stationarity on smooth nonconvex functions.

**Assumptions.** f is beta-smooth and bounded below; lr = 1/beta; any radii rho_t >= 0.

**Statement.** sum_{t<T} ||grad f(x_t)||^2 <= 2 beta Delta + beta^2 sum_{t<T} rho_t^2.

So rho_t = rho/sqrt(t + 1) makes the mean squared gradient fall like log T/T. `rho` is a number (constant, or `InverseSqrt(rho)`
and any other schedule that does not depend on the gradient).

**Where it is attained.** On beta x^2/2: an equality, except for the term of the last radius.

**For training.** Decaying rho removes the floor of T4 at the same number of gradients.

**Source.** Derived here; matches claim P7 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache, partial

from sharpmin.core.rho import InverseSqrt, RhoSchedule, StepInfo, as_schedule

from .._problems import problems
from .._statements.assume import require
from .._statements.cell import Cell
from .._statements.confront import confront
from .._statements.random_problems import random_problems
from .._statements.situation import CONVEX, Place, Rule
from .._statements.theorem import Theorem, register, scaled
from .t4 import step_size

LONG = 1000
"""The number of steps beyond which the sum of 1/(t + 1) is computed from its asymptotic series, exact to rounding."""


def powers(owner: str, rho: float | RhoSchedule, steps: int, lr: float, power: int = 2) -> tuple[float, float]:
    """The sum of rho_t^power over t < T, and the largest rho_t; refuses a schedule whose radius depends on the gradient."""
    schedule = as_schedule(rho, owner)
    if isinstance(schedule, InverseSqrt) and power == 2:
        return schedule.rho**2 * harmonic(steps), schedule.rho
    found = [float(schedule(StepInfo(t, lr, 0.0))) for t in range(steps)]
    blind = all(float(schedule(StepInfo(t, lr, 1e300))) == r for t, r in enumerate(found))
    require(blind, owner, f"rho={rho!r} depends on the gradient; use a schedule of the step and of lr")
    return math.fsum(radius**power for radius in found), max(found)


@cache
def short(steps: int) -> float:
    """sum_{t<T} 1/(t + 1), term by term."""
    return math.fsum(1 / (t + 1) for t in range(steps))


def harmonic(steps: int) -> float:
    """sum_{t<T} 1/(t + 1); beyond `LONG` it is log T + gamma + 1/(2T) - 1/(12 T^2), to 1e-14."""
    if steps <= LONG:
        return short(steps)
    return math.log(steps) + 0.57721566490153286 + 1 / (2 * steps) - 1 / (12 * steps * steps)


def bound(*, beta: float, rho: float | RhoSchedule, steps: int, delta: float, lr: float | None = None) -> float:
    """2 beta Delta + beta^2 sum rho_t^2; a bound on the sum over t < T."""
    require(lr is None or abs(lr * beta - 1) <= 1e-12, "d1", f"lr={lr} must be 1/beta={1 / beta:g}")
    return 2 * beta * delta + beta**2 * powers("d1", rho, steps, 1 / beta)[0]


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """Nonconvex families, and the quadratic that attains the bound, under a constant and a decaying radius."""
    for trial in random_problems(theorem, "nonconvex", quick=quick, settings=1):
        f, rho, steps = trial.problem, InverseSqrt(float(trial.rho[0])), 1000
        run = trial.run("sam", steps, lr=1 / f.beta, rho=rho)
        delta = float(trial.gap()[0])
        limit = theorem.bound(beta=f.beta, rho=rho, steps=steps, delta=delta)
        where = f"{f.name}: {rho}, lr 1/beta, T {steps}"
        yield Cell(where, steps * float(run.mean_square_gradient[0]), "<=", limit, trivial=2 * f.beta * delta * steps)
    beta, steps = 2.0, 2000
    quadratic = problems()["quadratic"](curvatures=[beta])
    for radius in (0.3, InverseSqrt(0.3)):
        k = {"beta": beta, "rho": radius, "steps": steps, "delta": beta / 2}
        yield confront(theorem, f"quadratic, rho {radius}, lr 1/beta, T {steps}", quadratic, k, lr=1 / beta, x0=1.0)


def power_bound(*, power: int, **keywords: float) -> float:
    """A mutant: the radii to another power; the statement has 2."""
    beta, steps = keywords["beta"], int(keywords["steps"])
    return 2 * beta * keywords["delta"] + beta**2 * powers("d1", keywords["rho"], steps, 1.0, power)[0]


D1 = register(
    Theorem(
        id="d1",
        title="SAM, nonconvex, decaying rho: all the way",
        claims=("P7",),
        kind="upper",
        statement=__doc__,
        formula=bound,
        prescribed=step_size,
        check=check,
        example=CONVEX,
        golden=(
            ({"steps": 3}, 2 + 0.75),
            ({"steps": 3, "rho": InverseSqrt(0.5)}, 2 + 0.25 * (1 + 1 / 2 + 1 / 3)),
        ),
        attained=True,
        rule=Rule("squared-gradient", "2 beta Delta/T + (beta^2/T) sum rho_t^2", schedule="inverse-sqrt", per_step=True),
        places=(
            Place("exact", "strongly-convex pl", "decaying", all_the_way=True, rank=1),
            Place("exact", "convex nonconvex", "decaying", all_the_way=True),
        ),
        mutants={"1 % lower": scaled(bound, 0.99), "rho^3 for rho^2": partial(power_bound, power=3)},
    )
)
