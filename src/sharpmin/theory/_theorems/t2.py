"""T2. No constant step size makes constant-rho SAM faster than 1/T^2 on strongly convex functions.

**Assumptions.** T >= 2, rho > 0, kappa = beta/mu >= 1, a constant lr in (0, 2/beta).

**Statement.** There is a 1-D quadratic with curvature mu or beta, and a start, with

    f(x_T) - f* >= beta^3 rho^2 / (8 mu^2 T^2).

If lr >= 1/(mu T), take curvature beta and a start on its two-cycle (C1): the step is too large. Otherwise take curvature
mu and x0 = 3 rho + 2 kappa^1.5 rho/T: the step is too small. The instance depends on lr and T.

**Where it is attained.** kappa = 1, T = 1000, lr = 1/(mu T): within 0.1 %. At T = 2 and lr just below 1/(2 mu), for kappa < 4.
For kappa >= 8 and T >= kappa^2 there are functions of two variables that are slower by the factor kappa: T2' (id t2k).

**For training.** The rate 1/T^2 of T1 is the price of constant rho; gradient descent converges exponentially here.

**Source.** Derived here; matches claim P1 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from .._problems import problems
from .._problems.hinge import HingeProblem
from .._statements.assume import require
from .._statements.cell import Cell
from .._statements.confront import confront
from .._statements.situation import Place
from .._statements.theorem import Theorem, register, scaled


def bound(*, beta: float, mu: float, rho: float, steps: int, lr: float | None = None) -> float:
    """beta^3 rho^2/(8 mu^2 T^2), for every lr in (0, 2/beta)."""
    require(steps >= 2, "t2", f"steps={steps} must be at least 2")
    require(lr is None or lr < 2 / beta, "t2", f"lr={lr} must be below 2/beta={2 / beta:g}")
    return power_bound(beta=beta, mu=mu, rho=rho, steps=steps, lr=lr, power=2)


def power_bound(*, beta: float, mu: float, rho: float, steps: int, lr: float | None = None, power: int) -> float:
    """The bound with another power of T; the statement has 2."""
    return beta**3 * rho**2 / (8 * mu**2 * float(steps) ** power)


def instance(beta: float, mu: float, rho: float, steps: int, lr: float) -> tuple[HingeProblem, float]:
    """The quadratic and the start on which SAM with this lr attains the lower bound."""
    quadratic = problems()["quadratic"]
    if lr >= 1 / (mu * steps) * (1 - 1e-12):
        f, start = quadratic(curvatures=[beta]), lr * beta * rho / (2 - lr * beta)
    else:
        f, start = quadratic(curvatures=[mu]), 3 * rho + 2 * (beta / mu) ** 1.5 * rho / steps
    if not isinstance(f, HingeProblem):
        raise TypeError("one curvature makes a 1-D problem")
    return f, start


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """A grid of step sizes over (0, 2/beta), kappa and T, with the instance that each calls for."""
    rho, mu = 0.7, 0.5
    for kappa in (1.0, 3.0) if quick else (1.0, 1.5, 3.0, 10.0, 100.0):
        beta = kappa * mu
        for steps in (2, 1000) if quick else (2, 3, 10, 100, 1000):
            k = {"beta": beta, "mu": mu, "rho": rho, "steps": steps}
            balance = min(1 / (mu * steps), 1.99 / beta)
            for lr in (0.1 * balance, 0.999 * balance, balance, min(3 * balance, 1 / beta), 1 / beta, 1.9 / beta):
                f, start = instance(beta, mu, rho, steps, lr)
                where = f"curvature {'beta' if f.beta == beta else 'mu'}, kappa {kappa:g}, T {steps}, lr {lr:.3g}"
                yield confront(theorem, where, f, k, lr=lr, x0=start, relation=">=")


T2 = register(
    Theorem(
        id="t2",
        title="SAM, strongly convex: no constant lr beats 1/T^2",
        claims=("P1",),
        kind="lower",
        statement=__doc__,
        formula=bound,
        check=check,
        example={"beta": 1.0, "mu": 0.1, "rho": 0.5, "steps": 1000},
        golden=(({"beta": 2.0, "mu": 0.5, "steps": 10}, 8 * 0.25 / (8 * 0.25 * 100)),),
        attained=True,
        places=(Place("exact", "strongly-convex", "constant"),),
        mutants={"1 % higher": scaled(bound, 1.01), "T for T^2": partial(power_bound, power=1)},
    )
)
