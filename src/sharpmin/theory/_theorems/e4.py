"""E4. m-SAM on a convex Lipschitz function can stay at its start for ever, arbitrarily far from the optimum; n-SAM cannot.

**Assumptions.** f' = clip(beta x, -L0, L0), L0 = 0.45 beta rho, as the mean of two beta-smooth samples l'_+- = f' +- s (see
`problems()["e4"]`); d >= 1.5 rho; rho constant; any lr; a start within w = rho/32 of d.

**Statement.** On [d - w, d + w] the gradient at the perturbed point is 0 for either sample: x_t = x0 for ever. So from d

    f(x_T) - f* = L0 d - L0^2/(2 beta) for all T,

which has no limit as d grows, while ||grad f||^2 = L0^2 = 0.2025 beta^2 rho^2.

**Where it is attained.** For every sample path. n-SAM, which draws the descent sample anew, drifts to the optimum (T7).

**For training.** No bound on the gap of practical SAM can hold for convex Lipschitz losses without more assumptions.

**Source.** Derived here; matches claim P5 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
"""

from __future__ import annotations

from collections.abc import Iterator

from .._problems import problems
from .._problems.e4 import e4_conditions
from .._simulation.simulate import simulate
from .._statements.cell import Cell
from .._statements.situation import Place
from .._statements.statistic import standard_error
from .._statements.theorem import Theorem, register, scaled


def bound(*, beta: float, rho: float, d: float, lr: float | None = None) -> float:
    """L0 d - L0^2/(2 beta), L0 = 0.45 beta rho, whatever lr is; 0 at rho = 0."""
    slope = e4_conditions(beta, rho, d)
    return slope * d - slope**2 / (2 * beta)


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """m-SAM from d at every kind of lr; n-SAM from the same start ends below."""
    for beta, rho, d in ((1.0, 1.0, 3.0), (1.0, 1.0, 50.0), (2.0, 0.3, 0.45)):
        f, limit = problems()["e4"](beta=beta, rho=rho, d=d), theorem.bound(beta=beta, rho=rho, d=d)
        for s in (0.01, 1.0, 10.0):
            run = simulate(
                f, method="m-sam", lr=s / beta, rho=rho, steps=1000, x0=d, seeds=range(8), record=range(1001), means=False
            )
            for gap in (run.value.values.min(), run.value.values.max()):
                yield Cell(f"m-sam, d {d:g}, beta lr {s:g}, 8 paths of 1000 steps", float(gap), "==", limit)
    f = problems()["e4"](beta=1.0, rho=1.0, d=3.0)
    gaps = f.gap(simulate(f, method="n-sam", lr=0.1, rho=1.0, steps=400, x0=3.0, seeds=range(200), means=False).x_final.values)
    half = theorem.bound(beta=1.0, rho=1.0, d=3.0) / 2
    yield Cell("n-sam, d 3, lr 0.1, T 400", float(gaps.mean()), "<", half, standard_error(gaps))


E4 = register(
    Theorem(
        id="e4",
        title="m-SAM, convex and Lipschitz: fixed points at any distance from the optimum",
        claims=("P5",),
        kind="lower",
        statement=__doc__,
        formula=bound,
        check=check,
        example={"beta": 1.0, "rho": 1.0, "d": 50.0},
        golden=(({}, 22.39875),),
        attained=True,
        places=(Place("m-sam", "convex", "constant", all_the_way=False),),
        mutants={"1 % lower": scaled(bound, 0.99), "1 % higher": scaled(bound, 1.01)},
    )
)
