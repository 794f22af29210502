"""T4. Deterministic SAM on a smooth nonconvex function comes within beta^2 rho^2 of stationarity, and no further.

**Assumptions.** f is beta-smooth and bounded below; 0 < lr <= 1/beta; rho constant.

**Statement.** With u_t = ||grad f(x_t)||,

    mean_{t<T} u_t^2 <= 2 Delta/(lr T) + beta^2 rho^2        (lr = 1/beta unless given).

The difference of the two gradients of a step is at most beta rho, however small the gradient: an absolute error.

**Where it is attained.** On TRAP(theta) the constant 1 in front of beta^2 rho^2 is reached as theta -> 0, for every lr; on a
quadratic of curvature beta at lr = 1/beta.

**For training.** The floor does not depend on the step size: decaying lr alone does not remove it.

**Source.** Derived here; matches claim P3 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from .._problems import problems
from .._statements.assume import step_below
from .._statements.cell import Cell
from .._statements.confront import confront
from .._statements.random_problems import random_problems
from .._statements.situation import CONVEX, Place, Rule
from .._statements.statistic import start_gap
from .._statements.theorem import Theorem, register, scaled, without


def step_size(*, beta: float) -> float:
    """1/beta."""
    return 1 / beta


def bound(*, beta: float, rho: float, steps: int, delta: float, lr: float | None = None) -> float:
    """2 Delta/(lr T) + beta^2 rho^2."""
    lr = step_size(beta=beta) if lr is None else lr
    step_below("t4", lr, 1 / beta, "1/beta", strict=False)
    return 2 * delta / (lr * steps) + beta**2 * rho**2


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """Families; TRAP(0.001) at its trapped point, for three step sizes."""
    for trial in random_problems(theorem, "nonconvex", quick=quick):
        yield from trial.mean_squares("sam", partial(theorem.bound, beta=trial.problem.beta))
    beta, rho, steps = 2.0, 0.5, 10_000
    f = problems()["trap"](theta=0.001, beta=beta, rho=rho)
    for s in (0.1, 0.5, 1.0):
        k = {"beta": beta, "rho": rho, "steps": steps, "delta": start_gap(f, 0.0), "lr": s / beta}
        yield confront(theorem, f"trap, theta 0.001, beta lr {s:g}, T {steps}", f, k, x0=0.0)


T4 = register(
    Theorem(
        id="t4",
        title="SAM, nonconvex: stationary up to beta^2 rho^2",
        claims=("P3",),
        kind="upper",
        statement=__doc__,
        formula=bound,
        prescribed=step_size,
        check=check,
        example=CONVEX,
        golden=(({}, 2 / 1000 + 0.25),),
        attained=True,
        rule=Rule("squared-gradient", "2 Delta/(lr T) + beta^2 rho^2", up_to_rho=True),
        places=(
            Place("exact", "nonconvex", "constant", note="no step size lowers the floor: make rho smaller, or let it decay"),
        ),
        mutants={"1 % lower": scaled(bound, 0.99), "no rho term": without(bound, rho=0.0)},
    )
)
