"""T1. Deterministic SAM on a strongly convex function converges at O~(1/T^2), although rho is constant.

**Assumptions.** f is mu-strongly convex and beta-smooth; 0 < lr < 1/beta.

**Statement.** With tau = beta^2 lr rho / (2 (1 - beta lr)) and F = max{tau^2/(2 mu), beta^3 lr^2 rho^2/2},

    f(x_T) - f* <= max{ (1 - 2 mu lr (1 - beta lr/2))^T Delta, F }.

Every step with ||grad f|| >= tau decreases f as much as a step of gradient descent: the effect of rho is confined to a ball
that shrinks with lr. The prescribed step size lr = min{1/(2 beta), (2/(3 mu T)) max{1, log(mu^3 Delta T^2/(beta^4 rho^2))}}
balances the two terms and gives, with Lg = max{1, log(...)},

    f(x_T) - f* <= max{ exp(-3 mu T/(4 beta)) Delta, (2/9) beta^4 rho^2 Lg^2/(mu^3 T^2), beta^4 rho^2/(mu^3 T^2) }.

**Where it is attained.** Both terms at T = 1 and kappa = 1, on a quadratic: the first for rho -> 0, the second for a start
close to 0. For long T the two-cycle of a quadratic (C1) reaches 1/4 of F up to kappa = 4 as lr -> 0, 1/kappa beyond. In the
plane two-cycles come closer: as lr -> 0 KAPPA2 keeps a fifth of F for every kappa, and its family .751 at kappa 100, .997
at 1e6. So F is sharp, and T2' (id t2k) shows that beta^4 rho^2/(mu^3 T^2) is optimal up to constants and log^2.

**For training.** Without noise, a smaller learning rate is enough: rho need not decay.

**Source.** Derived here; matches claim P1 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

from .._problems import problems
from .._statements.assume import over, step_below
from .._statements.cell import Cell
from .._statements.confront import confront
from .._statements.random_problems import random_problems
from .._statements.situation import STRONG, Place, Rule
from .._statements.theorem import Theorem, register, scaled, without


def floor(beta: float, mu: float, rho: float, lr: float) -> float:
    """F, the gap at which the effect of rho may hold the iterates."""
    tau = beta**2 * lr * rho / (2 * (1 - beta * lr))
    return max(tau**2 / (2 * mu), beta**3 * lr**2 * rho**2 / 2)


def rate(beta: float, mu: float, steps: int, delta: float, lr: float) -> float:
    """The term of the start, which decays geometrically."""
    return (1 - 2 * mu * lr * (1 - beta * lr / 2)) ** steps * delta


def log_term(beta: float, mu: float, rho: float, steps: int, delta: float) -> float:
    """Lg = max{1, log(mu^3 Delta T^2/(beta^4 rho^2))}: inf at rho = 0, 1 at Delta = 0."""
    if delta == 0:
        return 1.0
    return max(1.0, math.log(over(mu**3 * delta * steps**2, beta**4 * rho**2) or 1.0))


def step_size(*, beta: float, mu: float, rho: float, steps: int, delta: float) -> float:
    """min{1/(2 beta), 2 Lg/(3 mu T)}."""
    return min(1 / (2 * beta), 2 / (3 * mu * steps) * log_term(beta, mu, rho, steps, delta))


def bound(*, beta: float, mu: float, rho: float, steps: int, delta: float, lr: float | None = None) -> float:
    """max{rate, F} at lr, by default the prescribed one."""
    lr = step_size(beta=beta, mu=mu, rho=rho, steps=steps, delta=delta) if lr is None else lr
    step_below("t1", lr, 1 / beta, "1/beta", strict=True)
    return max(rate(beta, mu, steps, delta, lr), floor(beta, mu, rho, lr))


def closed_form(*, beta: float, mu: float, rho: float, steps: int, delta: float) -> float:
    """The three terms at the prescribed step size."""
    start = math.exp(-3 * mu * steps / (4 * beta)) * delta
    unit = beta**4 * rho**2 / (mu**3 * steps**2)
    if unit == 0:
        return start
    return max(start, 2 / 9 * unit * log_term(beta, mu, rho, steps, delta) ** 2, unit)


def slower_in_lr(*, beta: float, mu: float, rho: float, steps: int, delta: float, lr: float | None = None) -> float:
    """A mutant: F with one power of lr too many."""
    lr = step_size(beta=beta, mu=mu, rho=rho, steps=steps, delta=delta) if lr is None else lr
    return max(rate(beta, mu, steps, delta, lr), lr * floor(beta, mu, rho, lr))


def first_term_scaled(factor: float, *, lr: float | None = None, **k: float) -> float:
    """A mutant: the term that does not depend on the start, times `factor`."""
    steps = int(k.pop("steps"))
    lr = step_size(**k, steps=steps) if lr is None else lr
    return max(factor * rate(k["beta"], k["mu"], steps, k["delta"], lr), floor(k["beta"], k["mu"], k["rho"], lr))


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """Families at random lr; the prescribed step size; the two-cycle, started on it."""
    for trial in random_problems(theorem, "strongly-convex", quick=quick, top=0.95):
        f = trial.problem
        yield from trial.final_gaps("sam", partial(theorem.bound, beta=f.beta, mu=f.mu))
    lam, quadratic = 1.0, problems()["quadratic"](curvatures=[1.0])
    cases = {
        "two-cycle": (0.1, 0.05, 1000, 0.1 * 0.05 / 1.95),  # rho, lr, T, x0
        "one step from nearly 0": (1.0, 0.3, 1, 1e-9),
        "one step of gradient descent": (1e-9, 0.3, 1, 1.0),
    }
    for where, (rho, lr, steps, x0) in cases.items():
        k = {"beta": lam, "mu": lam, "rho": rho, "steps": steps, "delta": x0**2 / 2, "lr": lr}
        yield confront(theorem, f"quadratic, kappa 1, {where}, lr {lr}", quadratic, k, x0=x0)
    for steps in (100, 1000, 10_000):
        k = {"beta": lam, "mu": lam / 2, "rho": 0.5, "steps": steps, "delta": 0.5}
        where = f"curvature beta, prescribed lr, T {steps}"
        yield confront(theorem, where, quadratic, k, lr=theorem.step_size(**k), x0=1.0, trivial=0.5)


T1 = register(
    Theorem(
        id="t1",
        title="SAM, strongly convex: O~(1/T^2) with constant rho",
        claims=("P1",),
        kind="upper",
        statement=__doc__,
        formula=bound,
        prescribed=step_size,
        closed=closed_form,
        check=check,
        example=STRONG,
        rule=Rule(
            "gap",
            "max{(1 - 2 mu lr (1 - beta lr/2))^T Delta, F}, F of order beta^4 lr^2 rho^2/mu",
            vanishing=True,
            maximum=True,
            up_to_rho=True,
        ),
        places=(
            Place(
                "exact",
                "strongly-convex",
                "constant",
                all_the_way=True,
                note="a decaying lr gives the rate 1/T^2, and a constant lr is no faster",
            ),
        ),
        mutants={
            "1 % lower, first term": lambda **k: first_term_scaled(0.99, **k),
            "1 % lower": scaled(bound, 0.99),
            "no rho term": without(bound, rho=0.0),
            "rho^3 for rho^2": lambda **k: bound(**{**k, "rho": k["rho"] ** 1.5}),
            "lr^3 for lr^2": slower_in_lr,
        },
    )
)
