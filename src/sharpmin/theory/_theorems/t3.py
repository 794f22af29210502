"""T3. Deterministic SAM on convex functions converges, on average over the iterates.

**Assumptions.** f is convex and beta-smooth; 0 < lr <= 1/beta.

**Statement.** f(x+) <= f(x) - (lr/2) u^2 + beta^3 lr^2 rho^2/2 with u = ||grad f(x)||, hence

    mean_{t<T} u_t^2 <= 2 Delta/(lr T) + beta^3 lr rho^2.

With lr = min{1/beta, sqrt(2 Delta/(beta^3 rho^2 T))}: mean u_t^2 <= 2 beta Delta/T + 2 sqrt(2 Delta beta^3 rho^2/T).

**Where it is attained.** At lr = 1/beta on a quadratic of curvature beta, started on its two-cycle (C1), as T grows.

**For training.** On convex functions the effect of rho is multiplied by lr: a smaller lr removes it.

**Source.** Derived here; matches claim P2 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

from .._problems import problems
from .._statements.assume import over, step_below
from .._statements.cell import Cell
from .._statements.confront import confront
from .._statements.random_problems import random_problems
from .._statements.situation import CONVEX, Place, Rule
from .._statements.theorem import Theorem, register, scaled, without


def step_size(*, beta: float, rho: float, steps: int, delta: float) -> float:
    """min{1/beta, sqrt(2 Delta/(beta^3 rho^2 T))}; 0 where Delta is, since then every step size is right."""
    return min(1 / beta, math.sqrt(over(2 * delta, beta**3 * rho**2 * steps)))


def bound(*, beta: float, rho: float, steps: int, delta: float, lr: float | None = None) -> float:
    """2 Delta/(lr T) + beta^3 lr rho^2."""
    lr = step_size(beta=beta, rho=rho, steps=steps, delta=delta) if lr is None else lr
    step_below("t3", lr, 1 / beta, "1/beta", strict=False)
    return (2 * delta / (lr * steps) if delta else 0.0) + beta**3 * lr * rho**2


def closed_form(*, beta: float, rho: float, steps: int, delta: float) -> float:
    """2 beta Delta/T + 2 sqrt(2 Delta beta^3 rho^2/T)."""
    return 2 * beta * delta / steps + 2 * math.sqrt(2 * delta * beta**3 * rho**2 / steps)


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """Families; the two-cycle at lr = 1/beta, where the bound is attained."""
    for trial in random_problems(theorem, "convex", quick=quick):
        yield from trial.mean_squares("sam", partial(theorem.bound, beta=trial.problem.beta))
    beta, rho, steps = 2.0, 0.3, 1000
    f = problems()["quadratic"](curvatures=[beta])
    k = {"beta": beta, "rho": rho, "steps": steps, "delta": beta * rho**2 / 2, "lr": 1 / beta}
    yield confront(theorem, f"two-cycle, lr 1/beta, T {steps}", f, k, x0=rho)
    k = {"beta": beta, "rho": rho, "steps": steps, "delta": 1.0}
    yield confront(theorem, "quadratic, prescribed lr", f, k, lr=theorem.step_size(**k), x0=1.0, trivial=2 * beta)


T3 = register(
    Theorem(
        id="t3",
        title="SAM, convex: the mean squared gradient converges to 0",
        claims=("P2",),
        kind="upper",
        statement=__doc__,
        formula=bound,
        prescribed=step_size,
        closed=closed_form,
        check=check,
        example=CONVEX,
        golden=(({"lr": 0.5}, 2 / (0.5 * 1000) + 0.5 * 0.25),),
        attained=True,
        rule=Rule("squared-gradient", "2 Delta/(lr T) + beta^3 lr rho^2", vanishing=True, up_to_rho=True),
        places=(Place("exact", "convex", "constant", all_the_way=True, note="a smaller lr removes the effect of rho"),),
        mutants={"1 % lower": scaled(bound, 0.99), "no rho term": without(bound, rho=0.0)},
    )
)
