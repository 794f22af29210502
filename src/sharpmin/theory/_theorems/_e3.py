"""E3. With quadratic samples, stochastic SAM is pulled from the mean to the median: a floor as lr -> 0.

**Assumptions.** l(x; xi) = (beta/2)(x - xi)^2, P(xi = c) = p <= 1/2, P(xi = -pc/(1-p)) = 1 - p, c > rho (1-2p)(1-p)/p; rho
constant; lr -> 0. Either oracle, m-SAM or n-SAM.

**Statement.** x* = 0, but E x -> -(1 - 2p) rho, so

    E ||grad f(x)||^2 -> (1 - 2p)^2 beta^2 rho^2.

m-SAM on these samples is exactly SGD on f + beta rho E|x - xi|.

**Where it is attained.** In the limit, everywhere; measured at lr, lr/2, lr/4 and extrapolated.

**For training.** Even where all is quadratic and convex, skewed data moves the fixed point by a multiple of rho.

**Source.** Derived here; matches claims P4 and P5 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from sharpmin.core.extras import optional

from .._problems import problems
from .._problems._e3 import e3_spread
from .._simulate import simulate
from .._theorem import Cell, Theorem, register, without

if TYPE_CHECKING:
    import numpy as np
else:
    np = optional("numpy", extra="lab")


def bound(*, p: float, rho: float, beta: float = 1.0, c: float | None = None) -> float:
    """(1 - 2p)^2 beta^2 rho^2."""
    e3_spread(p, rho, c)
    return (1 - 2 * p) ** 2 * beta**2 * rho**2


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """Stationary means over three step sizes, extrapolated to lr = 0 by Richardson's rule, errors propagated."""
    weights = np.array([1.0, -6.0, 8.0]) / 3.0  # kills the terms in lr and lr^2
    lanes, beta, rho, top = 200 if quick else 2000, 2.0, 0.5, 0.02
    steps = 1000 if quick else 4000
    for p in (0.1, 0.25):
        f = problems()["e3"](p=p, rho=rho, beta=beta)
        lr = np.repeat([top, top / 2, top / 4], lanes)
        for method in ("m-sam", "n-sam"):
            warm = simulate(f, method=method, lr=lr, rho=rho, steps=1000, x0=0.0, seeds=np.arange(3 * lanes), means=False)
            seeds = np.arange(3 * lanes) + 10**6
            run = simulate(f, method=method, lr=lr, rho=rho, steps=steps, x0=warm.x_final.values, seeds=seeds)
            table = run.mean_square_gradient.values.reshape(3, lanes)
            error = math.sqrt(float((weights**2 * table.var(axis=1, ddof=1)).sum()) / lanes)
            where = f"{method}, p {p:g}, lr {top:g} to {top / 4:g}, extrapolated"
            yield Cell(where, float(weights @ table.mean(axis=1)), "==", theorem.bound(p=p, rho=rho, beta=beta), error)


E3 = register(
    Theorem(
        id="e3",
        title="m- and n-SAM, quadratic samples: E ||grad||^2 -> (1 - 2p)^2 beta^2 rho^2",
        claims=("P4", "P5"),
        kind="limit",
        statement=__doc__,
        formula=bound,
        check=check,
        mutants={
            "no rho term": without(bound, rho=0.0),
            "(1 - 2p) for (1 - 2p)^2": lambda **k: bound(**k) / (1 - 2 * k["p"]),
            "rho for rho^2": lambda **k: bound(**k) / k["rho"],
            "beta for beta^2": lambda **k: bound(**k) / k["beta"],
        },
    )
)
