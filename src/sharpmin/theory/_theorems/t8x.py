"""T8X. n-SAM on strongly convex functions: the iterates come within sqrt(kappa) rho of the optimum, and lr may be 1/beta.

**Assumptions.** f is mu-strongly convex and beta-smooth; unbiased gradients of variance at most sigma^2 at the points visited;
the descent sample is independent of the ascent sample; the perturbation is no longer than rho; 0 < lr <= 1/beta, to be given.
Nothing is assumed of the samples' smoothness.

**Statement.** With R = ||x0 - x*|| and kappa = beta/mu,

    E ||x_T - x*||^2 <= (1 - lr mu)^T R^2 + kappa rho^2 + lr sigma^2/mu.

Proof. As for T7X, with v = grad f(y): f(x) - f* <= <v, x - x*> + beta rho^2/2 - ||v||^2/(2 beta), and the step has
E||x+ - x*||^2 <= ||x - x*||^2 - 2 lr <v, x - x*> + lr^2 (||v||^2 + sigma^2). Put the first into the second: since
lr <= 1/beta, ||v||^2 drops out, and 2 (f(x) - f*) >= mu ||x - x*||^2. So E||x+ - x*||^2 <= (1 - lr mu) ||x - x*||^2
+ lr beta rho^2 + lr^2 sigma^2; sum the geometric series. It lies below T8, which has 2 rho^2 (1 + kappa/(1 - beta lr)).

**Where it is attained.** At kappa = 1 and lr = 1/beta: without noise on the two-cycle (C1), which then is +-rho; with noise and
rho -> 0 on quadratic samples, where E x^2 is sigma^2/beta^2 after every step. Whether kappa is needed in the floor is open.

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
from .._statements.theorem import Theorem, register, scaled, without

if TYPE_CHECKING:
    import numpy as np
else:
    np = optional("numpy", extra="lab")


def bound(*, beta: float, mu: float, sigma: float, rho: float, steps: int, distance: float, lr: float) -> float:
    """(1 - lr mu)^T R^2 + kappa rho^2 + lr sigma^2/mu."""
    step_below("t8x", lr, 1 / beta, "1/beta", strict=False)
    return max(1 - lr * mu, 0.0) ** steps * distance**2 + beta / mu * rho**2 + lr * sigma**2 / mu


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """Noisy strongly convex families, with lr up to 1/beta; the two-cycle and quadratic samples at lr = 1/beta, kappa = 1."""
    for trial in random_problems(theorem, "strongly-convex", quick=quick, seeds=32, settings=4):
        f, away = trial.problem, distance(trial.problem, trial.x0)
        for steps in (10, 100, 1000):
            squares = distance(f, trial.run("n-sam", steps, means=False).x_final.values) ** 2
            at = partial(theorem.bound, beta=f.beta, mu=f.mu, sigma=f.sigma, steps=steps)
            yield from trial.compare(f"n-sam, T {steps}", squares, at, away**2, distance=away)
    beta, rho = 2.0, 0.3
    k = {"beta": beta, "mu": beta, "sigma": 0.0, "rho": rho, "steps": 5, "distance": rho, "lr": 1 / beta}
    cycle = problems()["quadratic"](curvatures=[beta])
    yield confront(theorem, "two-cycle, kappa 1, lr 1/beta", cycle, k, method="n-sam", x0=rho)
    f = problems()["e3"](p=0.5, rho=1e-6, beta=beta, c=1.0)
    k = {**k, "sigma": f.sigma, "rho": 1e-6, "distance": 0.0}
    where = "quadratic samples, kappa 1, lr 1/beta, rho 1e-6"
    yield confront(theorem, where, f, k, method="n-sam", x0=0.0, seeds=40_000)


T8X = register(
    Theorem(
        id="t8x",
        title="n-SAM, strongly convex: within sqrt(kappa) rho, for lr up to 1/beta",
        claims=("P4",),
        kind="upper",
        statement=__doc__,
        formula=bound,
        check=check,
        example={"beta": 1.0, "mu": 0.1, "sigma": 0.3, "rho": 0.5, "steps": 2, "distance": 2.0, "lr": 0.5},
        golden=(({}, 0.95**2 * 4 + 2.5 + 0.45),),
        attained=True,
        rule=Rule("squared-distance", "(1 - lr mu)^T R^2 + lr sigma^2/mu + kappa rho^2", vanishing=True, up_to_rho=True),
        places=(Place("n-sam", "strongly-convex", "constant", rank=1),),
        mutants={
            "1 % lower": scaled(bound, 0.99),
            "no rho term": without(bound, rho=0.0),
            "noise left out": without(bound, sigma=0.0),
            "rho^3 for rho^2": lambda **k: bound(**{**k, "rho": k["rho"] ** 1.5}),
        },
    )
)
