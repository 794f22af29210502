"""T7. n-SAM, which climbs with an independent sample, has a floor of beta rho^2/2 on convex functions, without kappa.

**Assumptions.** f is convex and beta-smooth; unbiased gradients of variance at most sigma^2 at the points visited; the descent
sample is independent of the ascent sample; 0 < lr < 1/beta, to be given. Nothing is assumed of the samples' smoothness.

**Statement.** With R = ||x0 - x*|| and y_t the perturbed points,

    mean_{t<T} E[f(y_t) - f*] <= R^2/(2 lr T) + beta rho^2/(2 (1 - beta lr)) + lr sigma^2/2.

**Where it is attained.** Exactly, without noise, at every T and lr < 1/beta: f' = beta x clipped at +-beta d,
d = rho/(1 - beta lr), from x0 = beta lr T d. With noise on E3 with p = 1/2: E f(y) - f* -> beta rho^2/2 as lr -> 0.

**For training.** A better ascent direction (an independent or larger ascent batch) trades the beta^2 rho^2/(2 mu) of T6 for
beta rho^2/2: better by the condition number.

**Source.** Derived here; matches claim P5 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from sharpmin.core.extras import optional

from .._problems import problems
from .._problems.hinge import Hinge, HingeProblem
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


def bound(*, beta: float, sigma: float, rho: float, steps: int, distance: float, lr: float) -> float:
    """R^2/(2 lr T) + beta rho^2/(2 (1 - beta lr)) + lr sigma^2/2."""
    step_below("t7", lr, 1 / beta, "1/beta", strict=True)
    return distance**2 / (2 * lr * steps) + beta * rho**2 / (2 * (1 - beta * lr)) + lr * sigma**2 / 2


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """Noisy convex families; E3 with p = 1/2 at lr = 0.002, where the floor is attained to 0.3 %; a clipped slope."""
    for trial in random_problems(theorem, "convex", quick=quick, top=0.9, seeds=32, settings=4):
        f, away = trial.problem, distance(trial.problem, trial.x0)
        for steps in (10, 300):
            gaps = trial.run("n-sam", steps).mean_perturbed_gap.values
            at = partial(theorem.bound, beta=f.beta, sigma=f.sigma, steps=steps)
            yield from trial.compare(f"n-sam, T {steps}", gaps, at, f.beta * (away + trial.rho) ** 2 / 2, distance=away)
    f = problems()["e3"](p=0.5, rho=1.0, c=1.0)
    k = {"beta": 1.0, "sigma": f.sigma, "rho": 1.0, "steps": 5000, "distance": 0.0, "lr": 0.002}
    yield confront(theorem, "e3, p 1/2, c 1, lr 0.002, T 5000", f, k, method="n-sam", x0=0.0, seeds=64)
    beta, rho = 2.0, 0.7
    for lr, steps in ((0.05, 4), (0.45, 30)):
        d = rho / (1 - beta * lr)
        start, slope = beta * lr * steps * d, Hinge.through([(-d, -beta * d), (d, beta * d)], left=0.0, right=0.0)
        k = {"beta": beta, "sigma": 0.0, "rho": rho, "steps": steps, "distance": start, "lr": lr}
        yield confront(theorem, f"clipped slope, no noise, lr {lr}, T {steps}", HingeProblem("clipped", (slope,)), k, x0=start)


T7 = register(
    Theorem(
        id="t7",
        title="n-SAM, convex: a floor of beta rho^2/2, without kappa",
        claims=("P5",),
        kind="upper",
        statement=__doc__,
        formula=bound,
        check=check,
        example={"beta": 1.0, "sigma": 1.0, "rho": 1.0, "steps": 1000, "distance": 0.0, "lr": 0.002},
        golden=(({}, 1 / (2 * 0.998) + 0.001),),
        attained=True,
        rule=Rule(
            "perturbed-gap", "R^2/(2 lr T) + lr sigma^2/2 + beta rho^2/(2 (1 - beta lr))", vanishing=True, up_to_rho=True
        ),
        places=(
            Place("n-sam", "strongly-convex", "constant", rank=2),
            Place("n-sam", "convex", "constant", note="t7 bounds f at the perturbed points, by beta rho^2/2"),
        ),
        mutants={"1 % lower": scaled(bound, 0.99), "no rho term": without(bound, rho=0.0)},
    )
)
