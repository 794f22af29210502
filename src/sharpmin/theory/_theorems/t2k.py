"""T2'. The factor kappa between T1 and T2 is needed: no constant step size does better than beta^4 rho^2/(mu^3 T^2).

**Assumptions.** kappa = beta/mu >= 8, T >= kappa^2, rho > 0, a constant lr in (0, 2/beta).

**Statement.** There is a mu-strongly convex, beta-smooth function of one or two variables, and a start, with

    f(x_T) - f* >= (81/3200) beta^4 rho^2/(mu^3 T^2),        81/3200 = .0253.

That is kappa times T2, and T1 up to a constant and log^2. Three step sizes, three functions:
lr < 1/(mu T): the quadratic of curvature mu, from 3 rho + kappa^2 rho/T: the step is too small; the constant is 1/32;
1/(mu T) <= lr <= 1/(2 beta sqrt(kappa)): KAPPA2, on its two-cycle, with (81/3200) beta^4 lr^2 rho^2/mu or more;
larger lr: the quadratic of curvature beta, on its two-cycle (C1), with beta rho^2/(32 kappa) or more: the step is too large.

**Where it is attained.** At lr = 1/(mu T), up to the factor 1 + 16/(9 kappa). Open: T below kappa^2, step sizes that vary,
log^2 at a fixed Delta.

**For training.** With constant rho a gap of eps takes of the order of kappa^1.5 sqrt(beta rho^2/eps) steps in the worst case,
without rho kappa log(1/eps).

**Source.** Derived here, proof in docs/kappa.md; matches claim P1 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from .._problems import problems
from .._problems.problem import Problem
from .._simulation.simulate import simulate
from .._statements.assume import require
from .._statements.cell import Cell
from .._statements.situation import Place
from .._statements.theorem import Theorem, register, scaled
from .kappa2 import start


def bound(*, beta: float, mu: float, rho: float, steps: int, lr: float | None = None) -> float:
    """(81/3200) beta^4 rho^2/(mu^3 T^2), for every lr in (0, 2/beta)."""
    kappa = beta / mu
    require(kappa >= 8 * (1 - 1e-12), "t2k", f"beta/mu={kappa:g} must be at least 8; t2 holds for every kappa")
    require(
        steps >= kappa**2 * (1 - 1e-12), "t2k", f"steps={steps} must be at least (beta/mu)^2={kappa**2:g}; t2 holds from 2 on"
    )
    require(lr is None or lr < 2 / beta, "t2k", f"lr={lr} must be below 2/beta={2 / beta:g}")
    return power_bound(beta=beta, mu=mu, rho=rho, steps=steps, power=2)


def power_bound(*, beta: float, mu: float, rho: float, steps: int, lr: float | None = None, power: int) -> float:
    """The bound with another power of T; the statement has 2."""
    return 81 / 3200 * beta**4 * rho**2 / (mu**3 * float(steps) ** power)


def instance(beta: float, mu: float, rho: float, steps: int, lr: float) -> tuple[str, Problem, Any]:
    """The function and the start on which SAM with this lr attains the lower bound, and the function's name."""
    kappa, make = beta / mu, problems()
    if lr < 1 / (mu * steps) * (1 - 1e-12):
        return "curvature mu", make["quadratic"](curvatures=[mu]), 3 * rho + kappa**2 * rho / steps
    if lr <= 1 / (2 * beta * kappa**0.5):
        return "kappa2", make["kappa2"](beta=beta, mu=mu, rho=rho, lr=lr), start(beta=beta, rho=rho, lr=lr)
    return "curvature beta", make["quadratic"](curvatures=[beta]), lr * beta * rho / (2 - lr * beta)


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """A grid of step sizes over (0, 2/beta), kappa and T, with the function that each calls for."""
    rho, mu = 0.7, 0.5
    for kappa in (8.0, 200.0) if quick else (8.0, 30.0, 200.0):
        beta, least = kappa * mu, round(kappa**2)
        for steps in (least,) if quick else (least, 3 * least + 1):
            limit = theorem.bound(beta=beta, mu=mu, rho=rho, steps=steps)
            balance, middle = 1 / (mu * steps), 1 / (2 * beta * kappa**0.5)
            for lr in (0.1 * balance, 0.999 * balance, balance, 3 * balance, middle, 1.01 * middle, 1 / beta, 1.9 / beta):
                name, f, x0 = instance(beta, mu, rho, steps, lr)
                run = simulate(f, method="sam", lr=lr, rho=rho, steps=steps, x0=x0, means=False)
                yield Cell(f"{name}, kappa {kappa:g}, T {steps}, lr {lr:.3g}", float(f.gap(run.x_final.values)[0]), ">=", limit)


T2K = register(
    Theorem(
        id="t2k",
        title="SAM, strongly convex: no constant lr beats the beta^4 rho^2/(mu^3 T^2) of T1",
        claims=("P1",),
        kind="lower",
        statement=__doc__,
        formula=bound,
        check=check,
        example={"beta": 1.0, "mu": 0.125, "rho": 0.5, "steps": 100},
        golden=(({}, 81 / 3200 * 0.25 * 512 / 1e4),),
        attained=True,
        places=(Place("exact", "strongly-convex", "constant", rank=1),),
        mutants={
            "1 % higher": scaled(bound, 1.01),
            "T for T^2": partial(power_bound, power=1),
            "kappa^2 more": lambda **k: bound(**k) * (k["beta"] / k["mu"]) ** 2,
        },
    )
)
