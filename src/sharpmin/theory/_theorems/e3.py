"""E3. With quadratic samples, stochastic SAM is pulled from the mean to the median: a floor as lr -> 0.

**Assumptions.** l(x; xi) = (beta/2)(x - xi)^2, P(xi = c) = p <= 1/2, P(xi = -pc/(1-p)) = 1 - p, c > rho (1-2p)(1-p)/p; rho
constant; lr -> 0. Either oracle, m-SAM or n-SAM.

**Statement.** x* = 0, but E x -> -(1 - 2p) rho, so

    E ||grad f(x)||^2 -> (1 - 2p)^2 beta^2 rho^2.

m-SAM on these samples is exactly SGD on f + beta rho E|x - xi|.

**Where it is attained.** In the limit, everywhere. At lr > 0, as long as x stays between the samples, x is autoregressive and
E ||grad f||^2 = (1 - 2p)^2 beta^2 rho^2 + beta^3 lr Var/(2 - beta lr), with Var = p(1-p)(c/(1-p) + 2 rho)^2 (m-SAM) or
p(1-p)((c/(1-p))^2 + 4 rho^2) (n-SAM); measured at lr, lr/2, lr/4, less that term, and extrapolated.

**For training.** Even if every sample is a convex quadratic, skewed data moves the fixed point by a multiple of rho.

**Source.** Derived here; matches claims P4 and P5 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from sharpmin.core.extras import optional

from .._problems import problems
from .._problems.e3 import e3_spread
from .._simulation.simulate import simulate
from .._statements.cell import Cell
from .._statements.situation import Place
from .._statements.theorem import Theorem, register, scaled, without

if TYPE_CHECKING:
    import numpy as np

    from .._problems.problem import Array
else:
    np = optional("numpy", extra="lab")


def bound(*, p: float, rho: float, beta: float = 1.0, c: float | None = None) -> float:
    """(1 - 2p)^2 beta^2 rho^2."""
    e3_spread(p, rho, c)
    return (1 - 2 * p) ** 2 * beta**2 * rho**2


def excess(method: str, p: float, rho: float, beta: float, c: float, lr: Array) -> Array:
    """The term that a positive step size adds to the limit."""
    spread = c / (1 - p)
    variance = p * (1 - p) * ((spread + 2 * rho) ** 2 if method == "m-sam" else spread**2 + 4 * rho**2)
    return beta**3 * lr * variance / (2 - beta * lr)


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """Stationary means at three step sizes; their weighted mean, and the line through them at lr = 0."""
    lanes, beta, rho, steps = 256 if quick else 1024, 2.0, 0.5, 20_000 if quick else 40_000
    rates = np.array([0.0016, 0.0008, 0.0004])  # x stays five deviations from the nearer sample
    for p in (0.1, 0.25):
        f, lr = problems()["e3"](p=p, rho=rho, beta=beta), np.repeat(rates, lanes)
        c = e3_spread(p, rho, None)
        for method in ("m-sam", "n-sam"):
            warm = simulate(f, method=method, lr=lr, rho=rho, steps=12_500, x0=0.0, seeds=np.arange(3 * lanes), means=False)
            seeds = np.arange(3 * lanes) + 10**6
            run = simulate(f, method=method, lr=lr, rho=rho, steps=steps, x0=warm.x_final.values, seeds=seeds)
            table = run.mean_square_gradient.values.reshape(3, lanes) - excess(method, p, rho, beta, c, rates)[:, None]
            limit, means, errors = theorem.bound(p=p, rho=rho, beta=beta), table.mean(axis=1), table.std(axis=1, ddof=1)
            for how, weights in (("averaged", np.ones(3) / 3), ("extrapolated", np.array([-0.5, 0.5, 1.0]))):
                error = math.sqrt(float((weights**2 * errors**2).sum()) / lanes)
                where = f"{method}, p {p:g}, lr {rates[0]:g} to {rates[-1]:g}, {how}"
                yield Cell(where, float(weights @ means), "==", limit, error)


E3 = register(
    Theorem(
        id="e3",
        title="m- and n-SAM, quadratic samples: E ||grad||^2 -> (1 - 2p)^2 beta^2 rho^2",
        claims=("P4", "P5"),
        kind="limit",
        statement=__doc__,
        formula=bound,
        check=check,
        example={"p": 0.1, "rho": 1.0},
        golden=(
            ({}, 0.64),
            ({"rho": 0.5, "beta": 2.0}, 0.64),
        ),
        places=(
            Place("m-sam", "strongly-convex pl", "constant", all_the_way=False, rank=2),
            Place("m-sam", "convex", "constant", all_the_way=False, rank=1),
            Place("n-sam", "strongly-convex convex pl", "constant", all_the_way=False),
        ),
        mutants={
            "5 % lower": scaled(bound, 0.95),
            "5 % higher": scaled(bound, 1.05),
            "no rho term": without(bound, rho=0.0),
            "(1 - 2p) for (1 - 2p)^2": lambda **k: bound(**k) / (1 - 2 * k["p"]),
            "rho for rho^2": lambda **k: bound(**k) / k["rho"],
            "beta for beta^2": lambda **k: bound(**k) / k["beta"],
        },
    )
)
