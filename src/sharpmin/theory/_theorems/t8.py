"""T8. n-SAM on strongly convex functions: the iterates come within a multiple of sqrt(kappa) rho of the optimum.

**Assumptions.** f is mu-strongly convex and beta-smooth; unbiased gradients of variance at most sigma^2 at the points visited;
the descent sample is independent of the ascent sample; 0 < lr < 1/beta, to be given. Nothing is assumed of the samples'
smoothness. Beyond 1/beta it is false: on a quadratic at lr = 1.5/beta the two-cycle (C1) is at |x| = 3 rho.

**Statement.** With R = ||x0 - x*|| and kappa = beta/mu,

    E ||x_T - x*||^2 <= (1 - lr mu/2)^T R^2 + 2 rho^2 (1 + kappa/(1 - beta lr)) + 2 lr sigma^2/mu.

From 2 rho v - v^2 (1 - beta lr)/beta <= beta rho^2/(1 - beta lr), v = ||grad f(y)||.

**Where it is nearly attained.** The noise term to a half, .476 at beta lr = .95: quadratic samples, kappa = 1, rho -> 0, long
T, where E x^2 -> lr sigma^2/(mu (2 - mu lr)). E3 with p = 0.1 keeps E x at -0.8 rho, so the power of rho is right: 0.15 of
the floor.

**For training.** In distance the floor of n-SAM is kappa rho^2, where that of m-SAM, from T6, is kappa^2 rho^2.

**Source.** Derived here; matches claim P4 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
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
from .._statements.random_problems import random_problems
from .._statements.situation import Place, Rule
from .._statements.statistic import distance
from .._statements.theorem import Theorem, register, without

if TYPE_CHECKING:
    import numpy as np
else:
    np = optional("numpy", extra="lab")


def bound(*, beta: float, mu: float, sigma: float, rho: float, steps: int, distance: float, lr: float) -> float:
    """(1 - lr mu/2)^T R^2 + 2 rho^2 (1 + kappa/(1 - beta lr)) + 2 lr sigma^2/mu."""
    step_below("t8", lr, 1 / beta, "1/beta", strict=True)
    return right_hand_side(beta=beta, mu=mu, sigma=sigma, rho=rho, steps=steps, distance=distance, lr=lr)


def right_hand_side(*, beta: float, mu: float, sigma: float, rho: float, steps: int, distance: float, lr: float) -> float:
    """The bound without its condition; beyond lr = 1/beta it is false."""
    floor = 2 * rho**2 * (1 + beta / mu / (1 - beta * lr)) + 2 * lr * sigma**2 / mu
    return (1 - lr * mu / 2) ** steps * distance**2 + floor


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """Noisy strongly convex families; E3 with skewed samples, where n-SAM stays 0.8 rho away, at two radii."""
    for trial in random_problems(theorem, "strongly-convex", quick=quick, top=0.95, seeds=32, settings=4):
        f, away = trial.problem, distance(trial.problem, trial.x0)
        for steps in (10, 100, 1000):
            squares = distance(f, trial.run("n-sam", steps, means=False).x_final.values) ** 2
            at = partial(theorem.bound, beta=f.beta, mu=f.mu, sigma=f.sigma, steps=steps)
            yield from trial.compare(f"n-sam, T {steps}", squares, at, away**2, distance=away)
    for rho in (1.0, 0.01):
        f = problems()["e3"](p=0.1, rho=rho)
        k = {"beta": 1.0, "mu": 1.0, "sigma": f.sigma, "rho": rho, "steps": 4000, "distance": 0.0, "lr": 0.001}
        yield confront(theorem, f"e3, p 0.1, rho {rho:g}, lr 0.001, T 4000", f, k, method="n-sam", x0=0.0, seeds=256)


T8 = register(
    Theorem(
        id="t8",
        title="n-SAM, strongly convex: within sqrt(kappa) rho of the optimum",
        claims=("P4",),
        kind="upper",
        statement=__doc__,
        formula=bound,
        check=check,
        example={"beta": 1.0, "mu": 0.1, "sigma": 0.3, "rho": 0.5, "steps": 2, "distance": 2.0, "lr": 0.5},
        golden=(({}, 0.975**2 * 4 + 0.5 * 21 + 0.9),),
        rule=Rule(
            "squared-distance",
            "(1 - lr mu/2)^T R^2 + 2 lr sigma^2/mu + 2 rho^2 (1 + kappa/(1 - beta lr))",
            vanishing=True,
            up_to_rho=True,
        ),
        places=(Place("n-sam", "strongly-convex", "constant", rank=1),),
        mutants={
            "no rho term": without(bound, rho=0.0),
            "rho^3 for rho^2": lambda **k: bound(**{**k, "rho": k["rho"] ** 1.5}),
            "a tenth": lambda **k: bound(**k) / 10,
        },
    )
)
