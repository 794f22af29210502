"""U2. Deterministic USAM on convex functions descends like gradient descent, for every rho, if the step is small enough.

**Assumptions.** f is convex and beta-smooth; y = x + rho grad f(x), any rho; 0 < lr <= 1/(beta (1 + beta rho/2)).

**Statement.** Every step descends as one of gradient descent would, f(x+) <= f(x) - lr (1 - beta lr/2) ||grad f(x)||^2, so

    mean_{t<T} ||grad f(x_t)||^2 <= Delta/(lr (1 - beta lr/2) T)        (lr at its limit unless given).

The difference D of the two gradients has <D, grad f(x)> >= ||D||^2/(beta rho) >= 0: on a convex function the ascent step helps.

**Where it is attained.** On a quadratic of curvature beta with lr at its limit, for every rho, as T grows.

**For training.** Where the loss is convex no rho is too large for USAM, as long as lr shrinks like 1/rho.

**Source.** Derived here; matches claim P7 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from sharpmin.core.extras import optional

from .._problems import problems
from .._statements.assume import step_below
from .._statements.cell import Cell
from .._statements.confront import confront
from .._statements.random_problems import Draw, random_problems
from .._statements.situation import CONVEX, Place, Rule
from .._statements.theorem import Theorem, register, scaled, without

if TYPE_CHECKING:
    import numpy as np
else:
    np = optional("numpy", extra="lab")


def step_size(*, beta: float, rho: float) -> float:
    """1/(beta (1 + beta rho/2))."""
    return 1 / (beta * (1 + beta * rho / 2))


def descent(owner: str, beta: float, rho: float, lr: float | None) -> tuple[float, float]:
    """lr, by default its limit, and lr (1 - beta lr/2)."""
    limit = step_size(beta=beta, rho=rho)
    lr = limit if lr is None else lr
    step_below(owner, lr, limit, "1/(beta (1 + beta rho/2))", strict=False)
    return lr, lr * (1 - beta * lr / 2)


def bound(*, beta: float, rho: float, steps: int, delta: float, lr: float | None = None) -> float:
    """Delta/(lr (1 - beta lr/2) T)."""
    return delta / (descent("u2", beta, rho, lr)[1] * steps)


def slowed(theorem: Theorem, kind: str, quick: bool) -> Iterator[Draw]:
    """Trials whose lr is spread up to its limit, which depends on rho; beta rho from 0 to 20."""
    for trial in random_problems(theorem, kind, quick=quick):
        beta = trial.problem.beta
        rho = trial.rho / trial.rho.max() * np.geomspace(0.5, 20.0, len(trial.rho)) / beta
        limits = np.array([step_size(beta=beta, rho=float(r)) for r in rho])
        yield Draw(trial.problem, trial.x0, trial.lr * beta * limits, rho)


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """Families; the quadratic with lr at its limit, where the bound is attained, for a small and a large rho."""
    for trial in slowed(theorem, "convex", quick):
        yield from trial.mean_squares("usam", partial(theorem.bound, beta=trial.problem.beta))
    beta, steps = 2.0, 100
    f = problems()["quadratic"](curvatures=[beta])
    for r in (0.5, 5.0):
        lr, k = theorem.step_size(beta=beta, rho=r / beta), {"beta": beta, "rho": r / beta, "steps": steps, "delta": beta / 2}
        where = f"quadratic, beta rho {r:g}, lr at its limit, T {steps}"
        yield confront(theorem, where, f, k, method="usam", lr=lr, x0=1.0, trivial=beta * beta)


U2 = register(
    Theorem(
        id="u2",
        title="USAM, convex: each step descends as gradient descent does, for every rho",
        claims=("P7",),
        kind="upper",
        statement=__doc__,
        formula=bound,
        prescribed=step_size,
        check=check,
        example=CONVEX,
        golden=(
            ({}, 1 / 480),
            ({"lr": 0.5}, 1 / 375),
        ),
        attained=True,
        rule=Rule("squared-gradient", "Delta/(lr (1 - beta lr/2) T)"),
        places=(Place("exact", "convex", "unnormalized", all_the_way=True, note="u2 holds for any rho, u1 for beta rho < 1"),),
        mutants={
            "1 % lower": scaled(bound, 0.99),
            "lr at its limit without rho": without(bound, rho=0.0),
        },
    )
)
