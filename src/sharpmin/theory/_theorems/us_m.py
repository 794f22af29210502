"""US for m-USAM: stochastic USAM with the same sample in both passes, as in practice, without the normalization.

**Assumptions.** f is beta-smooth and bounded below, every sample's l is beta_component-smooth (default beta);
y = x + rho grad l(x; xi), x+ = x - lr grad l(y; xi); unbiased gradients of variance at most sigma^2 at the points x visited;
r = max{beta, beta_component} rho with r^2 (1 + 2 beta lr) < 1; 0 < lr <= 1/beta, to be given.

**Statement.** E f(x+) <= f(x) - (lr/2)(1 - r^2 - 2 r^2 beta lr) u^2 + (lr/2) r^2 sigma^2 + beta lr^2 (1 + r)^2 sigma^2; hence

    mean_{t<T} E u_t^2 <= [ 2 Delta/(lr T) + r^2 sigma^2 + 2 beta lr (1 + r)^2 sigma^2 ] / (1 - r^2 - 2 r^2 beta lr).

As lr -> 0 and lr T -> inf the floor is r^2 sigma^2/(1 - r^2), as for n-USAM.

**Where it is nearly attained.** On quadratic samples of equal curvature at lr = 1/beta: half of it as rho -> 0.

**For training.** The samples' own curvature decides how large rho may be, and it exceeds that of the mean loss.

**Source.** Derived here; matches claim P7 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from .._statements.assume import require, step_below
from .._statements.cell import Cell
from .._statements.situation import ANY, NOISY, Place, Rule
from .._statements.theorem import Theorem, register, scaled, without
from .us import noisy, samples


def bound(
    *,
    beta: float,
    sigma: float,
    rho: float,
    steps: int,
    delta: float,
    lr: float,
    beta_component: float | None = None,
) -> float:
    """[2 Delta/(lr T) + (r^2 + 2 beta lr (1 + r)^2) sigma^2]/(1 - r^2 - 2 r^2 beta lr)."""
    r = max(beta, beta_component or beta) * rho
    step_below("us-m", lr, 1 / beta, "1/beta", strict=False)
    rest = 1 - r**2 * (1 + 2 * beta * lr)
    require(rest > 0, "us-m", f"r^2 (1 + 2 beta lr)={1 - rest:g} must be below 1; lower rho={rho:g} or lr={lr:g}")
    return (2 * delta / (lr * steps) + (r**2 + 2 * beta * lr * (1 + r) ** 2) * sigma**2) / rest


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """Noisy families; quadratic samples of equal curvature."""
    for kind in ("nonconvex", "convex"):
        for trial in noisy(theorem, kind, quick, 0.57):
            f = trial.problem
            at = partial(theorem.bound, beta=f.beta, sigma=f.sigma, beta_component=f.beta_component)
            yield from trial.mean_squares("m-usam", at)
    yield from samples(theorem, "m-usam", (0.0, 0.3, 0.5))


US_M = register(
    Theorem(
        id="us-m",
        title="m-USAM, nonconvex: a floor of beta^2 rho^2 sigma^2/(1 - beta^2 rho^2)",
        claims=("P7",),
        kind="upper",
        statement=__doc__,
        formula=bound,
        check=check,
        example={**NOISY, "lr": 0.1},
        golden=(
            ({}, (0.02 + 0.7 * 0.09) / 0.7),
            ({"beta_component": 1.5}, (0.02 + (0.5625 + 0.2 * 3.0625) * 0.09) / 0.325),
        ),
        rule=Rule(
            "squared-gradient",
            "[2 Delta/(lr T) + (r^2 + 2 beta lr (1 + r)^2) sigma^2]/(1 - r^2 - 2 r^2 beta lr)",
            vanishing=True,
        ),
        places=(
            Place("m-sam", ANY, "unnormalized", note="samples of unequal curvature move the limit; this needs beta rho < 1"),
        ),
        mutants={"no rho term": without(bound, rho=0.0), "51 % lower": scaled(bound, 0.49)},
    )
)
