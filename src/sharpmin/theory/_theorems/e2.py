"""E2. m-SAM on a strongly convex function converges to a wrong point from every start: a gap of (beta - mu)^2 rho^2/(2 mu).

**Assumptions.** mu < beta; f = mu x^2/2 exactly, as the mean of two beta-smooth samples l_+- (see `problems()["e2"]`); rho
constant; lr -> 0 with lr mu T -> inf.

**Statement.** The mean drift of m-SAM is mu (x - xb) around xb = (beta/mu - 1) rho, and has no other zero. From every start

    E f(x_T) - f* -> (beta - mu)^2 rho^2/(2 mu).

As kappa = beta/mu grows that is the middle term of T6, whose constant is sharp.

**Where it is attained.** In the limit, everywhere; measured at lr, lr/2, lr/4 from three starts and extrapolated.

**For training.** The optimum is not even a stationary point of m-SAM: a smaller lr brings it closer to the wrong point.

**Source.** Derived here; matches claim P4 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from sharpmin.core.extras import optional

from .._problems import problems
from .._simulation.simulate import simulate
from .._statements.cell import Cell
from .._statements.situation import Place
from .._statements.theorem import Theorem, register, scaled, without

if TYPE_CHECKING:
    import numpy as np
else:
    np = optional("numpy", extra="lab")


def bound(*, beta: float, mu: float, rho: float) -> float:
    """(beta - mu)^2 rho^2/(2 mu)."""
    return (beta - mu) ** 2 * rho**2 / (2 * mu)


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """The gap averaged over time and paths at three step sizes, extrapolated to lr = 0, from either side and from 0."""
    weights = np.array([-0.5, 0.5, 1.0])  # the intercept of the line through three step sizes
    lanes = 800 if quick else 1200
    for beta, mu, rho in ((2.0, 1.0, 0.5),) if quick else ((2.0, 1.0, 0.5), (2.0, 0.5, 1.0)):
        f, xb, top = problems()["e2"](beta=beta, mu=mu, rho=rho), (beta / mu - 1) * rho, 0.02 * mu / beta**2
        lr, steps = np.repeat([4 * top, 2 * top, top], lanes), int(10 / (mu * top))
        for k, start in enumerate((-2 * xb, 0.0, 4 * xb)):
            seeds = np.arange(3 * lanes) + k * 10**5
            warm = simulate(f, method="m-sam", lr=lr, rho=rho, steps=steps, x0=start, seeds=seeds, means=False)
            run = simulate(f, method="m-sam", lr=lr, rho=rho, steps=steps, x0=warm.x_final.values, seeds=seeds + 10**6)
            table = run.mean_square_gradient.values.reshape(3, lanes) / (2 * mu)
            error = math.sqrt(float((weights**2 * table.var(axis=1, ddof=1)).sum()) / lanes)
            where = f"kappa {beta / mu:g}, x0 {start:g}, lr {4 * top:g} to {top:g}, extrapolated"
            yield Cell(where, float(weights @ table.mean(axis=1)), "==", theorem.bound(beta=beta, mu=mu, rho=rho), error)


E2 = register(
    Theorem(
        id="e2",
        title="m-SAM, strongly convex: a gap of (beta - mu)^2 rho^2/(2 mu) as lr -> 0",
        claims=("P4",),
        kind="limit",
        statement=__doc__,
        formula=bound,
        check=check,
        example={"beta": 1.0, "mu": 0.1, "rho": 1.0},
        golden=(({}, 4.05),),
        places=(Place("m-sam", "strongly-convex pl", "constant", all_the_way=False, rank=1),),
        mutants={
            "10 % lower": scaled(bound, 0.9),
            "10 % higher": scaled(bound, 1.1),
            "no rho term": without(bound, rho=0.0),
            "rho for rho^2": lambda **k: bound(**k) / k["rho"],
            "beta for beta - mu": lambda **k: bound(**k) * (k["beta"] / (k["beta"] - k["mu"])) ** 2,
        },
    )
)
