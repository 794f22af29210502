"""D1. With a decaying rho deterministic SAM goes all the way on smooth nonconvex functions.

**Assumptions.** f is beta-smooth and bounded below; lr = 1/beta; any radii rho_t >= 0.

**Statement.** sum_{t<T} ||grad f(x_t)||^2 <= 2 beta Delta + beta^2 sum_{t<T} rho_t^2.

So rho_t = rho/sqrt(t + 1) makes the mean squared gradient fall like log T/T. `rho` is a number (constant, or `InverseSqrt(rho)`
and any other schedule that does not look at the gradient).

**Where it is attained.** On beta x^2/2: an equality, but for the last radius.

**For training.** Decay rho, and the floor of T4 is gone, at the same number of gradients.

**Source.** Derived here; matches claim P7 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

from sharpmin.core.rho import InverseSqrt, RhoSchedule, StepInfo, as_schedule

from .._problems import problems
from .._simulation.simulate import simulate
from .._statements.assume import require
from .._statements.random_problems import random_problems
from .._statements.theorem import Cell, Theorem, register, scaled
from .t4 import step_size


def radii(owner: str, rho: float | RhoSchedule, steps: int, lr: float) -> list[float]:
    """rho_0 ... rho_{T-1}; refuses a schedule whose radius depends on the gradient."""
    schedule = as_schedule(rho, owner)
    found = [float(schedule(StepInfo(t, lr, 0.0))) for t in range(steps)]
    blind = all(float(schedule(StepInfo(t, lr, 1e300))) == r for t, r in enumerate(found))
    require(blind, owner, f"rho={rho!r} depends on the gradient; use a schedule of the step and of lr")
    return found


def bound(*, beta: float, rho: float | RhoSchedule, steps: int, delta: float, lr: float | None = None) -> float:
    """2 beta Delta + beta^2 sum rho_t^2; a bound on the sum over t < T."""
    require(lr is None or abs(lr * beta - 1) <= 1e-12, "d1", f"lr={lr} must be 1/beta={1 / beta:g}")
    return 2 * beta * delta + beta**2 * math.fsum(radius**2 for radius in radii("d1", rho, steps, 1 / beta))


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """Nonconvex families, and the quadratic that attains the bound, under a constant and a decaying radius."""
    for trial in random_problems("nonconvex", quick=quick, settings=1):
        f, rho, steps = trial.problem, InverseSqrt(float(trial.rho[0])), 1000
        run = trial.run("sam", steps, lr=1 / f.beta, rho=rho)
        delta = float(trial.gap()[0])
        limit = theorem.bound(beta=f.beta, rho=rho, steps=steps, delta=delta)
        where = f"{f.name}: {rho}, lr 1/beta, T {steps}"
        yield Cell(where, steps * float(run.mean_square_gradient[0]), "<=", limit, trivial=2 * f.beta * delta * steps)
    beta, steps = 2.0, 2000
    quadratic = problems()["quadratic"](curvatures=[beta])
    for radius in (0.3, InverseSqrt(0.3)):
        run = simulate(quadratic, method="sam", lr=1 / beta, rho=radius, steps=steps, x0=1.0)
        limit = theorem.bound(beta=beta, rho=radius, steps=steps, delta=beta / 2)
        yield Cell(f"quadratic, rho {radius}, lr 1/beta, T {steps}", steps * float(run.mean_square_gradient[0]), "<=", limit)


def power_bound(*, power: float, **keywords: float) -> float:
    """A mutant: the radii to another power; the statement has 2."""
    beta, sizes = keywords["beta"], radii("d1", keywords["rho"], int(keywords["steps"]), 1.0)
    return 2 * beta * keywords["delta"] + beta**2 * math.fsum(size**power for size in sizes)


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
        mutants={"1 % lower": scaled(bound, 0.99), "rho^3 for rho^2": partial(power_bound, power=3)},
    )
)
