"""T7X. n-SAM on convex functions, at the iterates: the same floor of beta rho^2/2 as at the perturbed points, and a larger lr.

**Assumptions.** f is convex and beta-smooth; unbiased gradients of variance at most sigma^2 at the points visited; the descent
sample is independent of the ascent sample; the perturbation is no longer than rho; 0 < lr <= 1/beta, to be given. Nothing is
assumed of the samples' smoothness.

**Statement.** With R = ||x0 - x*||,

    mean_{t<T} E[f(x_t) - f*] <= R^2/(2 lr T) + beta rho^2/2 + lr sigma^2/2.

Proof. Let v = grad f(y). Smoothness between x and y, and between y and x* with convexity, give
f(x) - f* <= <v, x - x*> + beta rho^2/2 - ||v||^2/(2 beta). Given x and y the step has E||x+ - x*||^2 <= ||x - x*||^2
- 2 lr <v, x - x*> + lr^2 (||v||^2 + sigma^2). Put the first into the second: since lr <= 1/beta, ||v||^2 drops out. Sum over t.

With B the bound of T7, smoothness and Jensen alone would give (B^(1/2) + rho (beta/2)^(1/2))^2, which is larger: as lr -> 0
its floor is 2 beta rho^2.

**Where it is attained.** At T = 1, lr = 1/beta and rho, sigma -> 0, on a quadratic. E3 attains the floor as lr, then p -> 0:
there E f(x) - f* -> (1 - 2p)^2 beta rho^2/2.

**For training.** The average of n-SAM's iterates, whose gap is at most this mean, comes within beta rho^2/2 of the optimum.

**Source.** Derived here; matches claim P5 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
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
from .._statements.statistic import distance, statistic
from .._statements.theorem import Theorem, register, scaled, without

if TYPE_CHECKING:
    import numpy as np

else:
    np = optional("numpy", extra="lab")


def bound(*, beta: float, sigma: float, rho: float, steps: int, distance: float, lr: float) -> float:
    """R^2/(2 lr T) + beta rho^2/2 + lr sigma^2/2."""
    step_below("t7x", lr, 1 / beta, "1/beta", strict=False)
    return distance**2 / (2 * lr * steps) + beta * rho**2 / 2 + lr * sigma**2 / 2


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """Noisy convex families, with lr up to 1/beta; E3 with skewed samples, from where it stays; one step on a quadratic."""
    for trial in random_problems(theorem, "convex", quick=quick, seeds=32, settings=4):
        f, away = trial.problem, distance(trial.problem, trial.x0)
        for steps in (10, 100):
            gaps = statistic(f, trial.run("n-sam", steps, record=range(steps + 1), means=False), "mean-gap")
            at = partial(theorem.bound, beta=f.beta, sigma=f.sigma, steps=steps)
            yield from trial.compare(f"n-sam, T {steps}", gaps, at, trial.gap(), distance=away)
    for rho in (1.0, 0.01):
        f = problems()["e3"](p=0.1, rho=rho)
        k = {"beta": 1.0, "sigma": f.sigma, "rho": rho, "steps": 4000, "distance": 0.8 * rho, "lr": 0.001}
        yield confront(theorem, f"e3, p 0.1, rho {rho:g}, lr 0.001, T 4000", f, k, method="n-sam", x0=-0.8 * rho, seeds=64)
    for lr, rho in ((0.5, 1e-4), (0.25, 0.3)):
        k = {"beta": 2.0, "sigma": 0.0, "rho": rho, "steps": 1, "distance": 1.0, "lr": lr}
        f = problems()["quadratic"](curvatures=[2.0])
        yield confront(theorem, f"quadratic, lr {lr}, rho {rho:g}, T 1", f, k, method="n-sam", x0=1.0)


T7X = register(
    Theorem(
        id="t7x",
        title="n-SAM, convex: a floor of beta rho^2/2 at the iterates",
        claims=("P5",),
        kind="upper",
        statement=__doc__,
        formula=bound,
        check=check,
        example={"beta": 1.0, "sigma": 1.0, "rho": 1.0, "steps": 1000, "distance": 2.0, "lr": 0.5},
        golden=(({}, 0.004 + 0.5 + 0.25),),
        attained=True,
        rule=Rule("mean-gap", "R^2/(2 lr T) + lr sigma^2/2 + beta rho^2/2", vanishing=True, up_to_rho=True),
        places=(
            Place("n-sam", "strongly-convex", "constant", rank=3, note="t7x bounds the mean gap, without the factor kappa"),
            Place("n-sam", "convex", "constant", rank=2, note="t7x bounds the mean gap at the iterates, by beta rho^2/2"),
            Place("n-sam", "strongly-convex convex", "capped", rank=1),
        ),
        mutants={
            "1 % lower": scaled(bound, 0.99),
            "no rho term": without(bound, rho=0.0),
            "rho^3 for rho^2": lambda **k: bound(**{**k, "rho": k["rho"] ** 1.5}),
        },
    )
)
