"""D2. With decaying lr and rho stochastic SAM converges to stationarity on smooth nonconvex functions, at the rate T^(-1/2).

**Assumptions.** As T5, with any radii rho_t >= 0 that do not depend on the gradient; 0 < lr <= 1/beta, to be given.

**Statement.** With V = sigma^2 (n-SAM) or (sigma + beta_component max_t rho_t)^2 (m-SAM), u = ||grad f(x)||,

    mean_{t<T} E u_t^2 <= 2 Delta/(lr T) + (beta^2/T) sum_{t<T} rho_t^2 + beta lr V;

for m-SAM beta_component takes the place of beta in the middle term where it exceeds beta. lr ~ T^(-1/2) and
rho ~ T^(-1/4) give T^(-1/2), the rate of SGD. `rho` is a number or a schedule.

**Where it is attained.** On quadratic samples of equal curvature (E3, p = 1/2) under n-SAM at lr = 1/beta, as T grows.

**For training.** rho may decay more slowly than lr without a worse rate.

**Source.** Derived here; matches claim P7 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from sharpmin.core.extras import optional
from sharpmin.core.rho import Constant, Cosine, InverseSqrt, RhoSchedule

from .._problems import problems
from .._statements.assume import step_below
from .._statements.cell import Cell
from .._statements.confront import confront
from .._statements.noise import smoothness, variance
from .._statements.random_problems import random_problems
from .._statements.situation import NOISY, Place, Rule
from .._statements.theorem import Theorem, register, scaled
from .d1 import powers

if TYPE_CHECKING:
    import numpy as np
else:
    np = optional("numpy", extra="lab")


def bound(
    *,
    beta: float,
    sigma: float,
    rho: float | RhoSchedule,
    steps: int,
    delta: float,
    lr: float,
    oracle: str = "m-sam",
    beta_component: float | None = None,
) -> float:
    """2 Delta/(lr T) + (beta^2/T) sum rho_t^2 + beta lr V."""
    return power_bound(
        beta=beta, sigma=sigma, rho=rho, steps=steps, delta=delta, lr=lr, oracle=oracle, beta_component=beta_component
    )


def power_bound(
    *,
    beta: float,
    sigma: float,
    rho: float | RhoSchedule,
    steps: int,
    delta: float,
    lr: float,
    oracle: str = "m-sam",
    beta_component: float | None = None,
    power: int = 2,
) -> float:
    """The bound with another power of the radii in the middle term; the statement has 2."""
    step_below("d2", lr, 1 / beta, "1/beta", strict=False)
    (total, largest), s = powers("d2", rho, steps, lr, power), smoothness(beta, oracle, beta_component)
    v = variance(beta, sigma, largest, oracle, beta_component)
    return 2 * delta / (lr * steps) + s**2 * total / steps + beta * lr * v


def floor(
    *, beta: float, sigma: float, rho0: float, lr: float, oracle: str = "m-sam", beta_component: float | None = None
) -> float:
    """The limit beta lr V as T -> inf: sum rho_t^2/T -> 0, and the noise term of a constant lr is left."""
    return beta * lr * variance(beta, sigma, rho0, oracle, beta_component)


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """Noisy families under two decaying radii; quadratic samples at lr = 1/beta: E u_{t+1}^2 = sigma^2 + beta^2 rho_t^2."""
    for method in ("m-sam", "n-sam"):
        for kind, top in (("nonconvex", 0.3), ("convex", 1.0)):
            for trial in random_problems(theorem, kind, quick=quick, seeds=32, settings=1, top=top):
                f, steps, lr, delta = trial.problem, 300, float(trial.lr[0]), float(trial.gap()[0])
                at = partial(theorem.bound, beta=f.beta, sigma=f.sigma, oracle=method, beta_component=f.beta_batch)
                for rho in (InverseSqrt(float(trial.rho[0])), Cosine(float(trial.rho[0]), steps=steps)):
                    squares = trial.run(method, steps, rho=rho).mean_square_gradient.values
                    limit = at(rho=rho, steps=steps, delta=delta, lr=lr)
                    known = 2 * f.beta * trial.gap()
                    yield from trial.compare(f"{method}, {rho}, T {steps}", squares, lambda limit=limit, **_: limit, known)
    beta, steps = 2.0, 400
    f, rho = problems()["e3"](p=0.5, rho=0.0, beta=beta, c=1.0), Cosine(1.5, steps=steps)
    k = {"beta": beta, "sigma": f.sigma, "rho": rho, "steps": steps, "delta": 0.0, "lr": 1 / beta, "oracle": "n-sam"}
    where = f"quadratic samples, n-sam, {rho}, lr 1/beta"
    yield confront(theorem, where, f, k, method="n-sam", x0=0.0, seeds=2000)


D2 = register(
    Theorem(
        id="d2",
        title="stochastic SAM, nonconvex, decaying rho: all the way",
        claims=("P7",),
        kind="upper",
        statement=__doc__,
        formula=bound,
        check=check,
        example={**NOISY, "lr": 0.1},
        golden=(
            ({"oracle": "n-sam"}, 0.02 + 0.25 + 0.009),
            ({"beta_component": 2.0}, 0.02 + 1.0 + 0.169),
            ({"steps": 3, "rho": InverseSqrt(0.5)}, 2 / 0.3 + 0.25 / 3 * (11 / 6) + 0.064),
        ),
        attained=True,
        rule=Rule(
            "squared-gradient",
            "2 Delta/(lr T) + beta lr V + (beta^2/T) sum rho_t^2",
            vanishing=True,
            schedule="inverse-sqrt",
            floor=floor,
        ),
        places=(
            Place("m-sam n-sam", "strongly-convex pl", "decaying", all_the_way=True, rank=1),
            Place("m-sam n-sam", "convex nonconvex", "decaying", all_the_way=True),
        ),
        mutants={
            "1 % lower": scaled(bound, 0.99),
            "no rho term": lambda **k: bound(**{**k, "rho": Constant(0.0)}),
            "rho for rho^2": partial(power_bound, power=1),
        },
    )
)
