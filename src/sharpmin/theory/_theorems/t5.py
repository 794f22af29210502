"""T5. Stochastic SAM on a smooth nonconvex function comes within beta^2 rho^2 of stationarity at the rate T^(-1/2).

**Assumptions.** f is beta-smooth and bounded below; E grad l(x; xi) = grad f(x), E ||grad l(x; xi) - grad f(x)||^2 <= sigma^2
at the points visited, x and y alike; 0 < lr <= 1/beta; rho constant. For m-SAM also
||grad l(x; xi) - grad l(y; xi)|| <= beta_xi ||x - y|| with (E beta_xi^2)^(1/2) <= beta_component (default beta); where
beta_component exceeds beta it takes the place of beta in the last term.

**Statement.** With V = sigma^2 (n-SAM) or (sigma + beta_component rho)^2 (m-SAM), u = ||grad f(x)||,

    E f(x+) <= f(x) - (lr/2) u^2 + (lr/2) beta^2 rho^2 + (beta lr^2/2) V, hence
    mean_{t<T} E u_t^2 <= 2 Delta/(lr T) + beta lr V + beta^2 rho^2.

With lr = min{1/beta, sqrt(2 Delta/(beta V T))} this is at most 2 beta Delta/T + 2 sqrt(2 beta Delta V/T) + beta^2 rho^2.

**Where it is attained.** E5 with theta -> 0 and little noise; quadratic samples (E3, p = 1/2) at lr = 1/beta under n-SAM.

**For training.** Batch size and lr shrink the middle term only. The last one is there for every lr.

**Source.** Derived here; matches claims P5 and P6 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from sharpmin.core.extras import optional

from .._problems import problems
from .._statements.assume import over, step_below
from .._statements.cell import Cell
from .._statements.confront import confront
from .._statements.noise import smoothness, variance
from .._statements.random_problems import random_problems
from .._statements.situation import CLIPPING, NOISY, UP_TO, Place, Rule
from .._statements.statistic import start_gap
from .._statements.theorem import Theorem, register, scaled, without

if TYPE_CHECKING:
    import numpy as np
else:
    np = optional("numpy", extra="lab")


def step_size(
    *,
    beta: float,
    sigma: float,
    rho: float,
    steps: int,
    delta: float,
    oracle: str = "m-sam",
    beta_component: float | None = None,
) -> float:
    """min{1/beta, sqrt(2 Delta/(beta V T))}; 0 where Delta is and V is not."""
    v = variance(beta, sigma, rho, oracle, beta_component)
    return min(1 / beta, math.sqrt(over(2 * delta, beta * v * steps)))


def bound(
    *,
    beta: float,
    sigma: float,
    rho: float,
    steps: int,
    delta: float,
    oracle: str = "m-sam",
    lr: float | None = None,
    beta_component: float | None = None,
) -> float:
    """2 Delta/(lr T) + beta lr V + beta^2 rho^2."""
    if lr is None:
        lr = step_size(beta=beta, sigma=sigma, rho=rho, steps=steps, delta=delta, oracle=oracle, beta_component=beta_component)
    step_below("t5", lr, 1 / beta, "1/beta", strict=False)
    v, s = variance(beta, sigma, rho, oracle, beta_component), smoothness(beta, oracle, beta_component)
    return (2 * delta / (lr * steps) if delta else 0.0) + beta * lr * v + s**2 * rho**2


def closed_form(
    *,
    beta: float,
    sigma: float,
    rho: float,
    steps: int,
    delta: float,
    oracle: str = "m-sam",
    beta_component: float | None = None,
) -> float:
    """2 beta Delta/T + 2 sqrt(2 beta Delta V/T) + beta^2 rho^2."""
    v, s = variance(beta, sigma, rho, oracle, beta_component), smoothness(beta, oracle, beta_component)
    return 2 * beta * delta / steps + 2 * math.sqrt(2 * beta * delta * v / steps) + s**2 * rho**2


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """Noisy families for m- and n-SAM; E5 at little noise; E3 at lr = 1/beta, where x+ = xi' - rho sign(x - xi)."""
    for method in ("m-sam", "n-sam"):
        for kind in ("nonconvex", "convex"):
            for trial in random_problems(theorem, kind, quick=quick, seeds=32, settings=4):
                f = trial.problem
                at = partial(theorem.bound, beta=f.beta, sigma=f.sigma, oracle=method, beta_component=f.beta_batch)
                yield from trial.mean_squares(method, at)
        theta, s, steps = 0.002, 0.0005, 10_000
        trap = problems()["e5"](theta=theta, s=s, beta=1.0, rho=1.0)
        k: dict[str, Any] = {"beta": 1.0, "sigma": s, "rho": 1.0, "steps": steps, "oracle": method}
        k["delta"] = start_gap(trap, 0.0)
        where, lr = f"e5, {method}, theta {theta}, s {s}, T {steps}", theorem.step_size(**k)
        yield confront(theorem, where, trap, k, method=method, lr=lr, x0=0.0, seeds=4, worst=True, trivial=2 * k["delta"])
    beta, rho = 2.0, 1.0
    samples = problems()["e3"](p=0.5, rho=rho, beta=beta, c=1.0)
    k = {"beta": beta, "sigma": samples.sigma, "rho": rho, "steps": 2000, "delta": 0.0, "oracle": "n-sam", "lr": 1 / beta}
    yield confront(theorem, "quadratic samples, n-sam, lr 1/beta", samples, k, method="n-sam", x0=0.0, seeds=400)


T5 = register(
    Theorem(
        id="t5",
        title="stochastic SAM, nonconvex: stationary up to beta^2 rho^2",
        claims=("P5", "P6"),
        kind="upper",
        statement=__doc__,
        formula=bound,
        prescribed=step_size,
        closed=closed_form,
        check=check,
        example=NOISY,
        golden=(
            ({"oracle": "n-sam", "lr": 0.1}, 2 / 100 + 0.1 * 0.09 + 0.25),
            ({"oracle": "m-sam", "lr": 0.1}, 2 / 100 + 0.1 * 0.64 + 0.25),
            ({"oracle": "m-sam", "lr": 0.1, "beta_component": 2.0}, 2 / 100 + 0.1 * 1.69 + 1.0),
            ({"oracle": "n-sam", "lr": 0.1, "beta_component": 2.0}, 2 / 100 + 0.1 * 0.09 + 0.25),
        ),
        attained=True,
        rule=Rule("squared-gradient", "2 Delta/(lr T) + beta lr V + beta^2 rho^2", vanishing=True, up_to_rho=True),
        places=(
            Place("m-sam", "convex", "constant", note="convexity does not help: on e4 SAM does not move at all"),
            Place("m-sam n-sam", "nonconvex", "constant"),
            Place("m-sam n-sam", "convex nonconvex", "capped", note=UP_TO),
            Place("m-sam", "convex nonconvex", "clipped", note=CLIPPING),
            Place("n-sam", "convex", "constant", rank=1),
        ),
        mutants={"1 % lower": scaled(bound, 0.99), "no rho term": without(bound, rho=0.0)},
    )
)
