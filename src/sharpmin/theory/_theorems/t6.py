"""T6. Stochastic SAM on strongly convex or PL functions converges to a gap of beta^2 rho^2/(2 mu), plus noise.

**Assumptions.** f is beta-smooth and PL(mu); unbiased gradients with E ||grad l(x; xi) - grad f(x)||^2 <= sigma^2 at the points
visited; 0 < lr <= 1/beta; rho constant. For m-SAM also ||grad l(x; xi) - grad l(y; xi)|| <= beta_xi ||x - y|| with
(E beta_xi^2)^(1/2) <= beta_component (default beta); where it exceeds beta it takes the place of beta in the middle term.

**Statement.** With V = sigma^2 (n-SAM) or (sigma + beta_component rho)^2 (m-SAM),

    E f(x_T) - f* <= (1 - lr mu)^T Delta + beta^2 rho^2/(2 mu) + beta lr V/(2 mu),

by default at lr = min{1/beta, max{1, log(2 mu^2 Delta T/(beta V))}/(mu T)}.

**Where it is attained.** n-SAM on quadratic samples (E3, p = 1/2) at kappa = 1, lr = 1/beta.

**For training.** The middle term is the floor of constant rho: no step size, batch size or horizon removes it.

**Source.** Derived here; matches claim P4 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from sharpmin.core.extras import optional

from .._problems import problems
from .._statements.assume import over, step_below
from .._statements.cell import Cell
from .._statements.confront import confront
from .._statements.noise import smoothness, variance
from .._statements.random_problems import random_problems
from .._statements.situation import CLIPPING, NOISY, UP_TO, Place, Rule
from .._statements.theorem import Theorem, register, scaled, without

if TYPE_CHECKING:
    import numpy as np
else:
    np = optional("numpy", extra="lab")


def step_size(
    *,
    beta: float,
    mu: float,
    sigma: float,
    rho: float,
    steps: int,
    delta: float,
    oracle: str = "m-sam",
    beta_component: float | None = None,
) -> float:
    """min{1/beta, max{1, log(2 mu^2 Delta T/(beta V))}/(mu T)}; 1/beta without noise."""
    v = variance(beta, sigma, rho, oracle, beta_component)
    ratio = over(2 * mu**2 * delta * steps, beta * v)
    return min(1 / beta, max(1.0, math.log(ratio) if ratio else 1.0) / (mu * steps))


def bound(
    *,
    beta: float,
    mu: float,
    sigma: float,
    rho: float,
    steps: int,
    delta: float,
    oracle: str = "m-sam",
    lr: float | None = None,
    beta_component: float | None = None,
) -> float:
    """(1 - lr mu)^T Delta + beta^2 rho^2/(2 mu) + beta lr V/(2 mu)."""
    v, s = variance(beta, sigma, rho, oracle, beta_component), smoothness(beta, oracle, beta_component)
    if lr is None:
        k = {"oracle": oracle, "beta_component": beta_component}
        lr = step_size(beta=beta, mu=mu, sigma=sigma, rho=rho, steps=steps, delta=delta, **k)  # type: ignore[arg-type]
    step_below("t6", lr, 1 / beta, "1/beta", strict=False)
    return (1 - lr * mu) ** steps * delta + s**2 * rho**2 / (2 * mu) + beta * lr * v / (2 * mu)


def naive(*, beta_component: float | None = None, **k: Any) -> float:
    """A mutant: the smoothness of f in place of the samples'."""
    return bound(**k)


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """Noisy families for m- and n-SAM; E1; n-SAM at lr = 1/beta, kappa = 1, where it is an equality."""
    for method in ("m-sam", "n-sam"):
        for trial in chain(
            *(random_problems(theorem, kind, quick=quick, seeds=32, settings=4) for kind in ("strongly-convex", "nonconvex"))
        ):
            f = trial.problem
            if f.pl > 0:
                k = {"sigma": f.sigma, "oracle": method, "beta_component": f.beta_batch}
                yield from trial.final_gaps(method, partial(theorem.bound, beta=f.beta, mu=f.pl, **k))
    e1, c, steps = problems()["e1"](beta=1.0, mu=0.1, rho=1.0), 3.065625, 20_000
    k = {"sigma": e1.sigma, "rho": 1.0, "steps": steps, "delta": 0.1 * c**2 / 2, "lr": 0.01}
    k = {**k, "beta": e1.beta, "mu": 0.1, "beta_component": e1.beta_component}
    where = "e1, m-sam, lr 0.01, in the middle of its trap"
    yield confront(theorem, where, e1, k, method="m-sam", x0=c, seeds=8, worst=True)
    beta, rho = 2.0, 1.0
    samples = problems()["e3"](p=0.5, rho=rho, beta=beta, c=10.0)
    for f, method, seeds in ((problems()["quadratic"](curvatures=[beta]), "sam", None), (samples, "n-sam", 40_000)):
        k = {"beta": beta, "mu": beta, "sigma": f.sigma, "rho": rho, "steps": 3, "delta": beta * 1.7**2 / 2}
        k = {**k, "oracle": "n-sam", "lr": 1 / beta}
        where = f"quadratic samples, sigma {f.sigma:g}, kappa 1, lr 1/beta"
        yield confront(theorem, where, f, k, method=method, x0=1.7, seeds=seeds)


T6 = register(
    Theorem(
        id="t6",
        title="stochastic SAM, strongly convex or PL: a gap of beta^2 rho^2/(2 mu)",
        claims=("P4",),
        kind="upper",
        statement=__doc__,
        formula=bound,
        prescribed=step_size,
        check=check,
        example={**NOISY, "mu": 0.1},
        golden=(({"oracle": "n-sam", "lr": 0.1, "steps": 2}, 0.99**2 + 0.25 / 0.2 + 0.1 * 0.09 / 0.2),),
        attained=True,
        rule=Rule("gap", "(1 - lr mu)^T Delta + beta lr V/(2 mu) + beta^2 rho^2/(2 mu)", vanishing=True, up_to_rho=True),
        places=(
            Place(
                "m-sam",
                "strongly-convex",
                "constant",
                note="the floor is there for every lr, batch size and number of steps: make rho smaller, or let it decay",
            ),
            Place("m-sam n-sam", "pl", "constant"),
            Place("m-sam n-sam", "strongly-convex pl", "capped", note=UP_TO),
            Place("m-sam", "strongly-convex pl", "clipped", note=CLIPPING),
            Place(
                "n-sam",
                "strongly-convex",
                "constant",
                note="t7 and t8, bounds of other quantities, are without the factor kappa^2",
            ),
        ),
        mutants={"1 % lower": scaled(bound, 0.99), "no rho term": without(bound, rho=0.0), "f's smoothness for m-SAM": naive},
    )
)
