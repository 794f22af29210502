"""UNIFIED. SAM between the normalized and the raw gradient, under noise that may grow with the gap and with the gradient.

**Assumptions.** f is beta-smooth and bounded below, every sample's l(.; xi) is beta_c-smooth; lam in [0, 1];
y = x + rho (1 - lam + lam/||g||) g, x+ = x - lr G, g and G the gradients of the same drawn sample at x and at y; the expected
residual (A, B, C): E||g||^2 <= 2 A (f - f*) + B ||grad f||^2 + C at the points visited. A variance of at most sigma^2 is
(0, 1, sigma^2). With r = beta_c rho and q = r^2 (1 + 2 beta lr)(1 - lam) + 2 beta lr, lr > 0 and rho are so small that q B < 1.

**Statement.** With a = 1 + lr q A and S = sum_{t<T} a^(-t-1), which is T for A = 0,

    min_{t<T} E||grad f(x_t)||^2 <= [ 2 Delta/(lr S) + q C + r^2 (1 + 2 beta lr) lam ] / (1 - q B).

Proof. Let M = E||g||^2 and u = ||grad f(x)||. ||G - g|| <= r (1 - lam) ||g|| + r lam, so by convexity of the square
E||G - g||^2 <= r^2 Q, Q = (1 - lam) M + lam, and E||G||^2 <= 2 M + 2 r^2 Q. With -<grad f(x), G - g> <= (u^2 + ||G - g||^2)/2,
E f(x+) <= f(x) - (lr/2) u^2 + (lr/2) r^2 (1 + 2 beta lr) Q + beta lr^2 M. With the residual for M the gap d obeys
E d+ <= a d - (lr/2)(1 - q B) u^2 + (lr/2) [q C + r^2 (1 + 2 beta lr) lam]. Divide by a^(t+1) and sum over t. For A = 0 all
weights are equal, and the mean over t obeys the bound.

**Where it is attained.** On TRAP with full gradients, (A, B, C) = (0, 1, 0), and lam = 1, as theta, lr -> 0 and lr T -> inf.
No growth with A would be false: where one sample in 16 is curved and its step takes x to -x, ||grad f|| never falls.

**For training.** lam is the share of SAM's floor that is left, r^2 lam. The noise adds a floor of r^2 (1 - lam) C, so with
noise every lam has a floor.

**Source.** Derived here; matches claim P6 of Si & Yun (NeurIPS 2023, arXiv:2306.09850) for lam = 1, and P7 for lam = 0. The
unified radius and the expected residual are those of Oikonomou & Loizou (ICLR 2025, arXiv:2503.02225), of which the abstract
only was read: their rates may differ.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from numbers import Real
from typing import TYPE_CHECKING

from sharpmin.core.canon import CANON
from sharpmin.core.extras import optional
from sharpmin.core.reference import SI_YUN_2023
from sharpmin.core.rho import RhoSchedule, Scalar, StepInfo

from .._problems import problems
from .._problems.hinge import Hinge, HingeProblem
from .._simulation.simulate import simulate
from .._statements.assume import require, residual_of
from .._statements.cell import Cell
from .._statements.random_problems import Draw, random_problems
from .._statements.situation import ANY, Place, Rule
from .._statements.theorem import Theorem, register, scaled, without

if TYPE_CHECKING:
    import numpy as np
else:
    np = optional("numpy", extra="lab")

PAPER = next(paper for paper in CANON if paper.key == "oikonomou2025sharpness")


@dataclass(frozen=True)
class Blend(RhoSchedule):
    """rho_t = rho ((1 - lam) n + lam) of the norm n: lam = 1 is SAM, lam = 0 is USAM.

    >>> Blend(0.5, 0.25)(StepInfo(step=0, dual_norm=3.0))
    1.25
    """

    rho: float
    lam: float

    def __call__(self, info: StepInfo) -> Scalar:
        """The radius for the gradient norm in `info`."""
        return self.rho * ((1 - self.lam) * info.dual_norm + self.lam)


def bound(
    *,
    beta: float,
    rho: float,
    steps: int,
    delta: float,
    lr: float,
    lam: float,
    residual: tuple[float, float, float],
    beta_component: float | None = None,
) -> float:
    """[2 Delta/(lr S) + q C + r^2 (1 + 2 beta lr) lam]/(1 - q B)."""
    a, b, c, size, q = _parts(beta, rho, lr, lam, residual, beta_component)
    growth = lr * q * a
    weights = -math.expm1(-steps * math.log1p(growth)) / growth if growth > 0 else steps
    return (2 * delta / (lr * weights) + q * c + size * lam) / (1 - q * b)


def floor(
    *,
    beta: float,
    rho: float,
    delta: float,
    lr: float,
    lam: float,
    residual: tuple[float, float, float],
    beta_component: float | None = None,
) -> float:
    """The limit of the bound as T -> inf, where lr S -> 1/(q A): [2 Delta q A + q C + r^2 (1 + 2 beta lr) lam]/(1 - q B)."""
    a, b, c, size, q = _parts(beta, rho, lr, lam, residual, beta_component)
    return (2 * delta * q * a + q * c + size * lam) / (1 - q * b)


def _parts(
    beta: float, rho: float, lr: float, lam: float, residual: tuple[float, float, float], beta_component: float | None
) -> tuple[float, float, float, float, float]:
    """A, B, C, r^2 (1 + 2 beta lr) and q, where the statement holds."""
    a, b, c = residual_of("unified", residual)
    if isinstance(lam, bool) or not isinstance(lam, Real):
        raise TypeError(f"unified: lam={lam!r} must be a number")
    require(0 <= lam <= 1, "unified", f"lam={lam:g} must be in [0, 1]")
    smoothness = beta if beta_component is None else max(beta, beta_component)
    size = (smoothness * rho) ** 2 * (1 + 2 * beta * lr)
    q = size * (1 - lam) + 2 * beta * lr
    require(q * b < 1, "unified", f"lr={lr:g} with rho={rho:g} and B={b:g} gives q B={q * b:g}, which must be below 1")
    return a, b, c, size, q


def settings(trial: Draw) -> Iterator[tuple[Draw, float]]:
    """The settings of a trial one by one, since a schedule of the norm is one for all lanes, with lam; lr and rho in range."""
    f = trial.problem
    for i, lam in enumerate((0.0, 0.3, 0.7, 1.0)):
        part = slice(i, i + 1)
        rho = min(float(trial.rho[i]), 0.6 / f.beta_component) if lam < 1 else float(trial.rho[i])
        yield Draw(f, trial.x0[part], trial.lr[part] * 0.2, np.array([rho]), trial.seeds), lam


def without_variance(theorem: Theorem, lam: float) -> Cell:
    """Convex quadratic samples of curvatures h: no variance bounds them, the residual (max h, 0, 2 max h f*) does."""
    h, steps, lanes, lr, rho = (1.0, 0.2), 100, 200, 0.05, 0.5
    f = problems()["us"](h1=h[0], h2=h[1])
    run = simulate(
        f,
        method="m-sam",
        lr=lr,
        rho=Blend(rho, lam),
        steps=steps,
        x0=3.0,
        seeds=np.arange(lanes),
        record=range(steps),
        means=False,
    )
    squares = f.gradient(run.x.values) ** 2  # over t and lanes
    best = int(squares.mean(axis=1).argmin())
    residual = (h[0], 0.0, 2 * h[0] * h[0] * h[1] / (h[0] + h[1]))
    delta = float(f.gap(np.array([3.0]))[0])
    limit = theorem.bound(
        beta=f.beta, rho=rho, steps=steps, delta=delta, lr=lr, lam=lam, residual=residual, beta_component=f.beta_component
    )
    error = float(squares[best].std(ddof=1) / math.sqrt(lanes))
    where = f"{f.name}: {Blend(rho, lam)}, residual {residual[0]:g}, 0, {residual[2]:.3g}, T {steps}"
    return Cell(where, float(squares[best].mean()), "<=", limit, error, 2 * f.beta * delta)


def few_steep(theorem: Theorem) -> Cell:
    """One sample in 16 is curved, and its step takes x to -x: |x| never changes, which the term of A has to pay for."""
    share, steps, lr, rho = 1 / 16, 100, 1.6, 0.25  # lr (1 + rho) = 2
    f = HingeProblem("one curved sample of 16", (Hinge(0.0, 1.0), Hinge(0.0, 0.0)), (share, 1 - share))
    run = simulate(f, method="m-usam", lr=lr, rho=rho, steps=steps, x0=1.0, seeds=[0])
    delta = float(f.gap(np.ones(1))[0])
    limit = theorem.bound(
        beta=f.beta, rho=rho, steps=steps, delta=delta, lr=lr, lam=0.0, residual=(1.0, 0.0, 0.0), beta_component=1.0
    )
    return Cell(
        f"{f.name}, residual 1, 0, 0, T {steps}", float(run.min_square_gradient[0]), "<=", limit, 0.0, 2 * f.beta * delta
    )


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """Noisy nonconvex families under four lam, the variance as residual; samples of unbounded variance; the trap."""
    for trial in random_problems(theorem, "nonconvex", quick=quick, seeds=32, settings=4):
        f = trial.problem
        for one, lam in settings(trial):
            radius = Blend(float(one.rho[0]), lam)
            squares = one.run("m-sam", 30, rho=radius).mean_square_gradient.values
            at = partial(theorem.bound, beta=f.beta, steps=30, lam=lam, beta_component=f.beta_component)
            known = 2 * f.beta * one.gap()
            yield from one.compare(f"m, {radius}, T 30", squares, partial(at, residual=(0.0, 1.0, f.sigma**2)), known)
    for lam in (0.0, 0.5):
        yield without_variance(theorem, lam)
    yield few_steep(theorem)
    trap, lr, steps = problems()["trap"](theta=0.0005, beta=2.0, rho=0.5), 4e-4, 1_200_000
    run = simulate(trap, method="sam", lr=lr, rho=0.5, steps=steps, x0=0.0)
    limit = theorem.bound(
        beta=2.0, rho=0.5, steps=steps, delta=float(trap.gap(np.zeros(1))[0]), lr=lr, lam=1.0, residual=(0.0, 1.0, 0.0)
    )
    yield Cell(f"trap, theta 0.0005, lam 1, lr {lr:g}, T {steps}", float(run.mean_square_gradient[0]), "<=", limit)


UNIFIED = register(
    Theorem(
        id="unified",
        title="SAM between normalized and unnormalized, nonconvex, expected-residual noise: a floor of r^2 lam",
        claims=("P6", "P7"),
        kind="upper",
        statement=__doc__,
        formula=bound,
        check=check,
        example={
            "beta": 1.0,
            "rho": 0.5,
            "steps": 1000,
            "delta": 1.0,
            "lr": 0.05,
            "lam": 0.5,
            "residual": (0.0, 1.0, 0.0),
        },
        golden=(
            ({"residual": (0.0, 1.0, 0.09)}, (0.04 + (0.1375 + 0.1) * 0.09 + 0.1375) / (1 - 0.2375)),
            ({"residual": (2.0, 0.0, 0.0), "steps": 2}, 40 / (1 / 1.02375 + 1 / 1.02375**2) + 0.1375),
        ),
        attained=True,
        rule=Rule(
            "least-squared-gradient",
            "[2 Delta/(lr S) + q C + r^2 (1 + 2 beta lr) lam]/(1 - q B), r = beta rho",
            vanishing=True,
            residual=True,
            floor=floor,
        ),
        places=(Place("m-sam", ANY, "constant unnormalized", note="where A = 0, the mean over t obeys the bound, too"),),
        mutants={
            "1 % lower": scaled(bound, 0.99),
            "no rho term": without(bound, rho=0.0),
            "no growth with A": lambda **k: bound(**{**k, "residual": (0.0, *k["residual"][1:])}),
            "rho^4 for rho^2": lambda **k: bound(**{**k, "rho": min(k["rho"], k["rho"] ** 2)}),
        },
        references=(SI_YUN_2023, PAPER),
    )
)
