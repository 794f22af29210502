"""T1R. T1 for any radii up to rho: chosen in advance, at random, or by an adversary who sees the iterates.

**Assumptions.** f is mu-strongly convex and beta-smooth; every step ascends by some rho_t in [0, rho]; 0 < lr < 1/beta.

**Statement.** With tau = beta^2 lr rho/(2 (1 - beta lr)) and F = max{tau^2/(2 mu), beta^3 lr^2 rho^2/2}, as in T1,

    f(x_T) - f* <= max{ (1 - 2 mu lr (1 - beta lr/2))^T Delta, F }.

What a step does to f is bounded by its own radius, and the bound grows with it: a step with rho_t <= rho and
||grad f|| >= tau decreases f as much as one of gradient descent, and the others end below F. The argument is for each step
separately. `rho` is the largest radius, or a schedule whose largest value is used.

**Where it is attained.** As T1, with rho_t = rho.

**For training.** Warm-up, decay, SAM on every k-th step, a gate, a cap: without noise, all of them keep the rate 1/T^2.

**Source.** Derived here; matches claim P1 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from sharpmin.core.extras import optional
from sharpmin.core.rho import RhoSchedule

from .._problems import problems
from .._problems.problem import Problem
from .._statements.cell import Cell
from .._statements.random_problems import random_problems
from .._statements.situation import STRONG
from .._statements.theorem import Theorem, register, scaled, without
from . import t1
from .d1 import powers

if TYPE_CHECKING:
    import numpy as np

    from .._problems.problem import Array
else:
    np = optional("numpy", extra="lab")

Rate = Callable[[int], "Array"]
"""The step sizes of one step, one per lane, as a function of t."""


def bound(*, beta: float, mu: float, rho: float | RhoSchedule, steps: int, delta: float, lr: float | None = None) -> float:
    """max{rate, F} at lr, by default the prescribed one, with the largest radius."""
    rho = largest("t1r", rho, steps)
    return t1.bound(beta=beta, mu=mu, rho=rho, steps=steps, delta=delta, lr=lr)


def largest(owner: str, rho: float | RhoSchedule, steps: int) -> float:
    """The largest radius of `rho`; refuses a schedule whose radius depends on the gradient."""
    return powers(owner, rho, steps, 0.0)[1] if isinstance(rho, RhoSchedule) else rho


def constantly(lr: Array) -> Rate:
    """A constant step size."""
    return lambda t: lr


def step(f: Problem, x: Array, lr: Array, radius: Array) -> Array:
    """One step of every lane, each with its own radius."""
    g = f.gradient(x)
    size = f.norm(g)
    unit = g / _column(f, np.where(size > 0, size, 1.0))
    return np.asarray(x - _column(f, lr) * f.gradient(x + _column(f, radius) * unit))


def _column(f: Problem, v: Array) -> Array:
    return v if f.dim == 1 else v[:, None]


CHOOSERS = ("all of rho", "random", "all of rho on every tenth step, else none", "an adversary's")
"""The ways to choose the radii; the adversary takes the one of three after which f is largest."""


def runs(f: Problem, x: Array, rate: Rate, rho: Array, horizons: tuple[int, ...]) -> Iterator[tuple[str, int, Array]]:
    """Who chooses the radii, T, and the gaps at T. All run side by side: a block of lanes each, the adversary with three."""
    n, rng = len(x), np.random.default_rng(1)
    at, ones = np.concatenate([x] * 4), np.ones(n)
    for t in range(max(horizons)):
        shares = np.concatenate([ones, rng.random(n), ones * (t % 10 == 9), ones, 0.5 * ones, 0.0 * ones])
        after = step(f, np.concatenate([at, at[3 * n :], at[3 * n :]]), np.tile(rate(t), 6), shares * np.tile(rho, 6))
        worst = f.value(after[3 * n :]).reshape(3, n).argmax(axis=0)
        at = np.concatenate([after[: 3 * n], after[(3 + worst) * n + np.arange(n)]])
        if t + 1 in horizons:
            for label, gap in zip(CHOOSERS, f.gap(at).reshape(4, n), strict=True):
                yield label, t + 1, gap


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """Families at random lr, and a quadratic near T1's instances, each under four ways to choose the radii."""
    for trial in random_problems(theorem, "strongly-convex", quick=quick, top=0.95):
        f = trial.problem
        at = partial(theorem.bound, beta=f.beta, mu=f.mu)
        for label, steps, gap in runs(f, trial.x0, constantly(trial.lr), trial.rho, (1, 10, 50)):
            yield from trial.compare(f"radii {label}, T {steps}", gap, partial(at, steps=steps), trial.gap())
    quadratic = problems()["quadratic"](curvatures=[1.0])
    for rho, lr, x0, steps in ((1.0, 0.3, 1e-9, 1), (1e-9, 0.3, 1.0, 1), (0.1, 0.05, 0.1, 1000)):
        limit = theorem.bound(beta=1.0, mu=1.0, rho=rho, steps=steps, delta=x0**2 / 2, lr=lr)
        for label, _, gap in runs(quadratic, np.array([x0]), constantly(np.array([lr])), np.array([rho]), (steps,)):
            yield Cell(f"quadratic, kappa 1, radii {label}, lr {lr}, rho {rho:g}, T {steps}", float(gap[0]), "<=", limit)


T1R = register(
    Theorem(
        id="t1r",
        title="SAM, strongly convex, any radii up to rho: the bound of T1",
        claims=("P1",),
        kind="upper",
        statement=__doc__,
        formula=bound,
        prescribed=t1.step_size,
        closed=t1.closed_form,
        check=check,
        example=STRONG,
        golden=(({"steps": 3, "lr": 0.1}, (1 - 0.02 * 0.95) ** 3),),
        attained=True,
        mutants={
            "1 % lower, first term": lambda **k: t1.first_term_scaled(0.99, **k),
            "1 % lower": scaled(bound, 0.99),
            "no rho term": without(bound, rho=0.0),
            "rho^3 for rho^2": lambda **k: bound(**{**k, "rho": k["rho"] ** 1.5}),
            "lr^3 for lr^2": t1.slower_in_lr,
        },
    )
)
