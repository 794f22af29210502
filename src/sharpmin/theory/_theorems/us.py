"""US. Stochastic USAM with independent samples has a floor too: not of rho^2 alone, but of beta^2 rho^2 sigma^2.

**Assumptions.** f is beta-smooth and bounded below; y = x + rho grad l(x; xi), x+ = x - lr grad l(y; xi'), xi' independent
of xi; unbiased gradients of variance at most sigma^2 at the points visited; r = beta rho < 1; 0 < lr <= 1/beta, to be given.

**Statement.** E f(x+) <= f(x) - (lr/2)(1 - r^2) u^2 + (lr/2) r^2 sigma^2 + (beta lr^2/2) sigma^2, u = ||grad f(x)||; hence

    mean_{t<T} E u_t^2 <= [ 2 Delta/(lr T) + r^2 sigma^2 + beta lr sigma^2 ] / (1 - r^2).

As lr -> 0 and lr T -> inf the floor is r^2 sigma^2/(1 - r^2).

**Where it is attained.** On quadratic samples of equal curvature (E3, p = 1/2) at lr = 1/beta, as T grows.

**For training.** Without normalization the perturbation is as long as the noise: a larger batch lowers the floor, a smaller
lr alone does not.

**Source.** Derived here; matches claim P7 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from sharpmin.core.extras import optional

from .._problems import problems
from .._statements.assume import require, step_below
from .._statements.cell import Cell
from .._statements.confront import confront
from .._statements.random_problems import Draw, random_problems
from .._statements.situation import ANY, NOISY, Place, Rule
from .._statements.theorem import Theorem, register, scaled, without

if TYPE_CHECKING:
    import numpy as np
else:
    np = optional("numpy", extra="lab")


def bound(*, beta: float, sigma: float, rho: float, steps: int, delta: float, lr: float) -> float:
    """[2 Delta/(lr T) + (r^2 + beta lr) sigma^2]/(1 - r^2), r = beta rho."""
    r = beta * rho
    require(r < 1, "us", f"beta rho={r:g} must be below 1, so rho below 1/beta={1 / beta:g}")
    step_below("us", lr, 1 / beta, "1/beta", strict=False)
    return (2 * delta / (lr * steps) + (r**2 + beta * lr) * sigma**2) / (1 - r**2)


def noisy(theorem: Theorem, kind: str, quick: bool, top: float) -> Iterator[Draw]:
    """Noisy trials whose beta_component rho is spread over (0, top)."""
    for trial in random_problems(theorem, kind, quick=quick, seeds=32, settings=4):
        r = trial.rho / trial.rho.max() * top
        yield Draw(trial.problem, trial.x0, trial.lr, r / trial.problem.beta_component, trial.seeds)


def samples(theorem: Theorem, method: str, radii: tuple[float, ...]) -> Iterator[Cell]:
    """Quadratic samples of equal curvature at lr = 1/beta, from the optimum."""
    beta = 2.0
    f = problems()["e3"](p=0.5, rho=0.0, beta=beta, c=1.0)
    for r in radii:
        k = {"beta": beta, "sigma": f.sigma, "rho": r / beta, "steps": 1000, "delta": 0.0, "lr": 1 / beta}
        where = f"quadratic samples, {method}, beta rho {r:g}, lr 1/beta"
        yield confront(theorem, where, f, k, method=method, x0=0.0, seeds=1500)


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """Noisy families; the quadratic samples that attain the bound."""
    for kind in ("nonconvex", "convex"):
        for trial in noisy(theorem, kind, quick, 0.95):
            f = trial.problem
            yield from trial.mean_squares("n-usam", partial(theorem.bound, beta=f.beta, sigma=f.sigma))
    yield from samples(theorem, "n-usam", (0.0, 0.3, 0.8))


US = register(
    Theorem(
        id="us",
        title="n-USAM, nonconvex: a floor of beta^2 rho^2 sigma^2/(1 - beta^2 rho^2)",
        claims=("P7",),
        kind="upper",
        statement=__doc__,
        formula=bound,
        check=check,
        example={**NOISY, "lr": 0.1},
        golden=(({}, (0.02 + 0.35 * 0.09) / 0.75),),
        attained=True,
        rule=Rule("squared-gradient", "[2 Delta/(lr T) + (r^2 + beta lr) sigma^2]/(1 - r^2), r = beta rho", vanishing=True),
        places=(
            Place("n-sam", ANY, "unnormalized", note="that something stays is measured, not proved; this needs beta rho < 1"),
        ),
        mutants={
            "1 % lower": scaled(bound, 0.99),
            "no rho term": without(bound, rho=0.0),
            "r^3 for r^2": lambda **k: bound(**{**k, "rho": (k["beta"] * k["rho"]) ** 1.5 / k["beta"]}),
        },
    )
)
