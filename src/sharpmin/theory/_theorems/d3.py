"""D3. With rho^2 proportional to lr stochastic SAM converges to the optimum on PL functions, at the rate 1/T.

**Assumptions.** As T6: f is beta-smooth and PL(mu), unbiased gradients of variance at most sigma^2 at the points visited, for
m-SAM samples of smoothness beta_component. lr_t = 2/(mu (t + t0)), t0 = 2 beta/mu, and rho_t^2 = rho0^2 beta lr_t.

**Statement.** With A = beta^3 rho0^2 + beta V, V = sigma^2 (n-SAM) or (sigma + beta_component rho0)^2 (m-SAM),

    E f(x_T) - f* <= Delta (t0-1)(t0-2)/((T+t0-1)(T+t0-2)) + 2 A T/(mu^2 (T+t0-1)(T+t0-2));

for m-SAM beta_component^2 beta takes the place of beta^3 where beta_component exceeds beta.

**Where it is nearly attained.** At T = 1 from the optimum, quadratic samples of curvature beta reach the share
1 - 1/(2 kappa) of the bound, .995 at kappa = 101. As T grows they reach a third of the noise term: the power of T is right.

**For training.** The natural scaling is rho ~ sqrt(lr): `ProportionalToLR(rho, lr, power=0.5)`. An ordinary decay of
lr then removes the floor of constant rho as well.

**Source.** Derived here; matches claim P7 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sharpmin.core.extras import optional
from sharpmin.core.rho import ProportionalToLR

from .._problems import problems
from .._simulation.lr import InverseTime
from .._statements.cell import Cell
from .._statements.confront import confront
from .._statements.noise import smoothness, variance
from .._statements.random_problems import random_problems
from .._statements.situation import Place, Rule
from .._statements.theorem import Theorem, register, scaled, without

if TYPE_CHECKING:
    import numpy as np
else:
    np = optional("numpy", extra="lab")


def step_size(*, beta: float, mu: float) -> InverseTime:
    """lr_t = 2/(mu (t + 2 beta/mu))."""
    return InverseTime(mu, 2 * beta / mu)


def radius(*, beta: float, rho0: float) -> ProportionalToLR:
    """rho_t = rho0 sqrt(beta lr_t); rho0 at the first step, where lr = 1/beta."""
    return ProportionalToLR(rho0, lr=1 / beta, power=0.5)


def bound(
    *,
    beta: float,
    mu: float,
    sigma: float,
    rho0: float,
    steps: int,
    delta: float,
    oracle: str = "m-sam",
    beta_component: float | None = None,
) -> float:
    """[Delta (t0-1)(t0-2) + 2 A T/mu^2]/((T+t0-1)(T+t0-2))."""
    v, s = variance(beta, sigma, rho0, oracle, beta_component), smoothness(beta, oracle, beta_component)
    t0, a = 2 * beta / mu, s**2 * beta * rho0**2 + beta * v
    return (delta * (t0 - 1) * (t0 - 2) + 2 * a * steps / mu**2) / ((steps + t0 - 1) * (steps + t0 - 2))


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """Noisy families, strongly convex and PL; quadratics with kappa 1, without and with noise; a step with kappa 101."""
    horizons = (1, 10, 100, 1000)
    for method in ("m-sam", "n-sam"):
        for kind in ("strongly-convex", "nonconvex"):
            for trial in random_problems(theorem, kind, quick=quick, seeds=32, settings=1):
                f, delta, rho0 = trial.problem, trial.gap(), float(trial.rho[0])
                if f.pl <= 0:
                    continue
                lr, rho = step_size(beta=f.beta, mu=f.pl), radius(beta=f.beta, rho0=rho0)
                run = trial.run(method, max(horizons), lr=lr, rho=rho, record=horizons, means=False)
                k = {"beta": f.beta, "mu": f.pl, "sigma": f.sigma, "oracle": method, "beta_component": f.beta_batch}
                for steps, value in zip(horizons, run.value.values, strict=True):
                    limit = theorem.bound(rho0=rho0, steps=steps, delta=float(delta[0]), **k)
                    gaps = value - f.f_star
                    yield from trial.compare(f"{method}, T {steps}", gaps, lambda limit=limit, **_: limit, delta)
    beta, lanes = 2.0, 2000
    for rho0, c in ((0.01, 0.0), (0.5, 1.0)):
        f = problems()["e3"](p=0.5, rho=rho0, beta=beta, c=c) if c else problems()["quadratic"](curvatures=[beta])
        lr, rho = step_size(beta=beta, mu=beta), radius(beta=beta, rho0=rho0)
        k = {"beta": beta, "mu": beta, "sigma": f.sigma, "rho0": rho0, "delta": beta * 0.3**2 / 2, "oracle": "n-sam"}
        for steps in (1, 1000):
            where = f"quadratic samples, sigma {f.sigma:g}, rho0 {rho0:g}, n-sam, T {steps}"
            at = {**k, "steps": steps}
            yield confront(theorem, where, f, at, method="n-sam", lr=lr, rho=rho, x0=0.3, seeds=lanes if c else None)
    kappa, rho0, f = 101.0, 0.01, problems()["e3"](p=0.5, rho=0.01, beta=beta, c=1.0)
    lr, rho = step_size(beta=beta, mu=beta / kappa), radius(beta=beta, rho0=rho0)
    k = {"beta": beta, "mu": beta / kappa, "sigma": f.sigma, "rho0": rho0, "steps": 1, "delta": 0.0, "oracle": "n-sam"}
    where = "quadratic samples, kappa 101, n-sam, T 1 from the optimum"
    yield confront(theorem, where, f, k, method="n-sam", lr=lr, rho=rho, x0=0.0, seeds=lanes)


D3 = register(
    Theorem(
        id="d3",
        title="stochastic SAM, PL, rho^2 ~ lr ~ 1/t: O(1/T), all the way",
        claims=("P7",),
        kind="upper",
        statement=__doc__,
        formula=bound,
        prescribed=step_size,
        check=check,
        example={"beta": 1.0, "mu": 0.1, "sigma": 0.3, "rho0": 0.5, "steps": 10, "delta": 1.0},
        golden=(
            ({"oracle": "n-sam"}, (19 * 18 + 680) / (29 * 28)),
            ({}, (19 * 18 + 1780) / (29 * 28)),
            ({"beta_component": 2.0}, (19 * 18 + 5380) / (29 * 28)),
        ),
        rule=Rule(
            "gap",
            "(t0^2 Delta + 2 A T/mu^2)/T^2, A = beta^3 rho^2 + beta (sigma + beta rho)^2",
            vanishing=True,
            schedule="sqrt-lr",
        ),
        places=(
            Place("exact", "strongly-convex pl", "decaying", all_the_way=True, note="this is d3 with one sample and sigma = 0"),
            Place(
                "m-sam n-sam",
                "strongly-convex pl",
                "decaying",
                all_the_way=True,
                note="rho^2 must stay proportional to lr: let both decay together",
            ),
        ),
        attained=True,
        mutants={
            "1 % lower": scaled(bound, 0.99),
            "no rho term": without(bound, rho0=0.0),
            "rho0^3 for rho0^2": lambda **k: bound(**{**k, "rho0": k["rho0"] ** 1.5}),
            "T^2 for T": lambda **k: bound(**k) / k["steps"],
            "a quarter": lambda **k: bound(**k) / 4,
        },
    )
)
