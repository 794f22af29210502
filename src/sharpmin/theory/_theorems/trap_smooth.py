"""TRAP on an infinitely smooth function: constant rho holds SAM on the flank of a cosine.

**Assumptions.** f(x) = -(beta/w^2) cos(w x), w = 3 pi/(2 rho); constant rho; any step sizes lr_t <= 1/beta with
sum lr_t = inf; a start in (-4 rho/3, -2 rho/3).

**Statement.** There f' > 0, so SAM takes f' at x + rho, which leads it to -rho: the interval is never left, x -> -rho, and

    |f'(x_T)| -> |f'(-rho)| = 2 beta rho/(3 pi).

**Where it is attained.** At its own instance, from every start in the interval.

**For training.** The trap is no artifact of kinks: if the curvature of the loss changes on the scale of rho, SAM can come to
rest on a slope.

**Source.** Derived here; matches claim P3 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from .._problems import problems
from .._simulation.lr import InverseTime
from .._simulation.simulate import simulate
from .._statements.assume import step_below
from .._statements.cell import Cell
from .._statements.situation import Place
from .._statements.theorem import Theorem, register, scaled


def bound(*, beta: float, rho: float, lr: float | None = None) -> float:
    """2 beta rho/(3 pi)."""
    if lr is not None:
        step_below("trap-smooth", lr, 1 / beta, "1/beta", strict=False)
    return 2 * beta * rho / (3 * math.pi)


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """Starts across the interval, for constant and decaying step sizes."""
    for beta, rho in ((2.0, 0.5),) if quick else ((2.0, 0.5), (0.3, 4.0)):
        f, limit = problems()["trap-smooth"](beta=beta, rho=rho), theorem.bound(beta=beta, rho=rho)
        starts = [-1.32 * rho, -1.1 * rho, -rho, -0.68 * rho]
        for label, lr in (("0.5/beta", 0.5 / beta), ("1/beta", 1 / beta), ("2/(beta (t + 2))", InverseTime(beta, 2.0))):
            run = simulate(f, method="sam", lr=lr, rho=rho, steps=4000, x0=starts, means=False)
            rounding = 1e-9 if isinstance(lr, float) else 2e-3  # lr ~ 1/t comes in slowly
            for start, slope in zip(starts, abs(f.gradient(run.x_final.values)), strict=True):
                yield Cell(f"beta {beta:g}, lr {label}, x0 {start:.3g}", float(slope), "==", limit, tolerance=rounding)


TRAP_SMOOTH = register(
    Theorem(
        id="trap-smooth",
        title="SAM, nonconvex and smooth: a trap with gradient 2 beta rho/(3 pi)",
        claims=("P3",),
        kind="lower",
        statement=__doc__,
        formula=bound,
        check=check,
        example={"beta": 2.0, "rho": 0.5},
        golden=(({}, 2 / (3 * math.pi)),),
        attained=True,
        places=(Place("exact", "nonconvex", "constant", all_the_way=False, rank=1),),
        mutants={"1 % lower": scaled(bound, 0.99), "1 % higher": scaled(bound, 1.01)},
    )
)
