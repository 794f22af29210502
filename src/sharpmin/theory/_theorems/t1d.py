"""T1d. The anytime version of T1: a decaying step size reaches O(1/T^2) without logarithm, horizon, Delta or rho.

**Assumptions.** f is mu-strongly convex and beta-smooth; lr_t = 2/(mu (t + t0)) with t0 = 4 beta/mu.

**Statement.** With C = 2 beta^4 rho^2/mu^3,

    f(x_T) - f* <= max{ Delta (t0/(T + t0))^3, C/(T - 1 + t0)^2 }.

**Where it is attained.** The second term at T = 1 and kappa = 1, on a quadratic, for a start close to 0. For long T the
iterates on a quadratic of curvature beta follow the shrinking two-cycle (C1); the gap is C/(4 kappa T^2), so the power of T is
right. The power of kappa is right too: on wedges (WEDGE, slopes .6 to .7) the gap stays within a factor 27 of C/T^2 at kappa
10, 30 and 100 (measured, T = 1e6).

**For training.** Without noise, SAM with constant rho converges to the optimum if the step size decays like 1/t.

**Source.** Derived here; matches claim P1 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from .._problems import problems
from .._simulation.lr import InverseTime
from .._statements.cell import Cell
from .._statements.confront import confront
from .._statements.random_problems import random_problems
from .._statements.situation import STRONG, Place, Rule
from .._statements.theorem import Theorem, register, scaled, without


def step_size(*, beta: float, mu: float) -> InverseTime:
    """lr_t = 2/(mu (t + 4 beta/mu))."""
    return InverseTime(mu, 4 * beta / mu)


def bound(*, beta: float, mu: float, rho: float, steps: int, delta: float) -> float:
    """max{start, C/(T - 1 + t0)^2}."""
    return power_bound(beta=beta, mu=mu, rho=rho, steps=steps, delta=delta, power=2)


def power_bound(*, beta: float, mu: float, rho: float, steps: int, delta: float, power: int) -> float:
    """The bound with another power of T in the rho term; the statement has 2."""
    t0 = 4 * beta / mu
    return max(delta * (t0 / (steps + t0)) ** 3, 2 * beta**4 * rho**2 / mu**3 / (steps - 1 + t0) ** power)


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """Families; and the shrinking two-cycle on curvature beta."""
    for trial in random_problems(theorem, "strongly-convex", quick=quick):
        f = trial.problem
        run = trial.run("sam", 1000, lr=step_size(beta=f.beta, mu=f.mu), record=(10, 100, 1000), means=False)
        for steps, value in zip((10, 100, 1000), run.value.values, strict=True):
            at = partial(theorem.bound, beta=f.beta, mu=f.mu, steps=steps)
            yield from trial.compare(f"sam, T {steps}", value - f.f_star, lambda lr, at=at, **k: at(**k), trial.gap())
    quadratic, long = problems()["quadratic"](curvatures=[1.0]), 10_000 if quick else 30_000
    for kappa, rho, steps, x0 in ((1.0, 0.5, long, 0.5), (2.0, 0.5, long, 0.5), (1.0, 0.05, long, 0.05), (1.0, 0.5, 1, 1e-9)):
        k = {"beta": 1.0, "mu": 1 / kappa, "rho": rho, "steps": steps, "delta": x0**2 / 2}
        where = f"curvature beta, kappa {kappa:g}, rho {rho:g}, T {steps}, x0 {x0:g}"
        yield confront(theorem, where, quadratic, k, lr=step_size(beta=1.0, mu=1 / kappa), x0=x0)


T1D = register(
    Theorem(
        id="t1d",
        title="SAM, strongly convex, lr ~ 2/(mu t): O(1/T^2), anytime",
        claims=("P1",),
        kind="upper",
        statement=__doc__,
        formula=bound,
        prescribed=step_size,
        check=check,
        example=STRONG,
        golden=(({"steps": 100}, max((40 / 140) ** 3, 2 * 0.25 / 1e-3 / 139**2)),),
        rule=Rule(
            "gap",
            "max{Delta (t0/(T + t0))^3, 2 beta^4 rho^2/(mu^3 (T - 1 + t0)^2)}",
            vanishing=True,
            maximum=True,
            up_to_rho=True,
        ),
        places=(Place("exact", "strongly-convex", "constant", all_the_way=True, rank=1),),
        mutants={
            "1 % lower": scaled(bound, 0.99),
            "no rho term": without(bound, rho=0.0),
            "rho^3 for rho^2": lambda **k: bound(**{**k, "rho": k["rho"] ** 1.5}),
            "T^3 for T^2": partial(power_bound, power=3),
        },
    )
)
