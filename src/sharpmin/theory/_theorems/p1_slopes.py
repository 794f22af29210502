"""P1, measured: the gap of T1d falls like T^(-2) over four decades, and that of T1 like (log T)^2/T^2.

**Assumptions.** f = beta x^2/2, x0 = 1, rho = 0.5, kappa = beta/mu in {1, 2}. T1d: lr_t = 2/(mu (t + 4 kappa)). T1: its
prescribed lr for each T, with the logarithm Lg.

**Statement.** Numeric: for T1d the slope of log gap against log T, fitted from T = 10^2 to 10^6 at four T a decade, is

    -2.00 +- 0.02.

For T1, gap T^2/Lg^2 stays within a factor 2. For larger condition numbers the slope has not yet reached -2: -1.965 at
kappa = 10 and -1.78 at kappa = 100.

**Where it is attained.** The shrinking two-cycle (C1) falls like lr_t^2.

**For training.** The rate 1/T^2 is observed in runs, not only proved as a bound.

**Source.** Derived here; matches claim P1 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from sharpmin.core.extras import optional

from .._problems import problems
from .._simulation.simulate import simulate
from .._statements.assume import require
from .._statements.cell import Cell
from .._statements.theorem import Theorem, register, scaled
from . import t1, t1d

if TYPE_CHECKING:
    import numpy as np
else:
    np = optional("numpy", extra="lab")

RHO = 0.5


def bound(*, beta: float, mu: float) -> float:
    """The slope -2."""
    require(beta <= 2 * mu, "p1-slopes", f"beta/mu={beta / mu:g} must be at most 2; beyond, the slope is measured too early")
    return -2.0


def flatness(*, beta: float, mu: float, horizons: list[int]) -> float:
    """The largest over the smallest gap T^2/Lg^2 with T1's prescribed lr; one lane per T, read at that T."""
    f, delta = problems()["quadratic"](curvatures=[beta]), beta / 2
    at = {steps: partial(t1.log_term, beta, mu, RHO, steps, delta) for steps in horizons}
    lrs = [t1.step_size(beta=beta, mu=mu, rho=RHO, steps=steps, delta=delta) for steps in horizons]
    run = simulate(f, method="sam", lr=lrs, rho=RHO, steps=max(horizons), x0=1.0, record=horizons, means=False)
    scaled = [gap * steps**2 / at[steps]() ** 2 for gap, steps in zip(np.diag(run.value.values), horizons, strict=True)]
    return float(max(scaled) / min(scaled))


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """Both measurements, for kappa 1 and 2; in quick mode from T = 10^3, since the first decade is still short of -2."""
    beta, low, high = 1.0, 3 if quick else 2, 4 if quick else 6
    decades = [10**k for k in range(low, high + 1)]
    horizons = [round(10 ** (k / 4)) for k in range(4 * low, 4 * high + 1)]
    for kappa in (1.0, 2.0):
        f, mu = problems()["quadratic"](curvatures=[beta]), beta / kappa
        lr = t1d.step_size(beta=beta, mu=mu)
        run = simulate(f, method="sam", lr=lr, rho=RHO, steps=max(horizons), x0=1.0, record=horizons, means=False)
        slope = float(np.polyfit(np.log(horizons), np.log(run.value.values[:, 0]), 1)[0])
        where = f"curvature beta, kappa {kappa:g}, T {min(horizons)} to {max(horizons)}"
        yield Cell(f"T1d, {where}: slope", slope, "==", theorem.bound(beta=beta, mu=mu), tolerance=0.01)
        flat = flatness(beta=beta, mu=mu, horizons=decades)
        yield Cell(f"T1, {where}: spread of gap T^2/Lg^2", flat, "<=", 2.0)


P1_SLOPES = register(
    Theorem(
        id="p1-slopes",
        title="SAM, strongly convex: gaps that fall like 1/T^2, by measured log-log slopes",
        claims=("P1",),
        kind="numeric",
        statement=__doc__,
        formula=bound,
        check=check,
        example={"beta": 1.0, "mu": 0.5},
        golden=(({}, -2.0),),
        mutants={"-1.9": scaled(bound, 0.95), "-2.1": scaled(bound, 1.05)},
    )
)
