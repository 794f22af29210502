"""TRAP. On a smooth nonconvex function constant-rho SAM converges to a point where the gradient is (1 - 2 theta) beta rho.

**Assumptions.** theta in (0, 1/2); constant rho; any step sizes lr_t <= 1/beta with sum lr_t = inf.

**Statement.** f' is piecewise linear with slopes +-beta (see `problems()["trap"]`), f* = 0 at -rho. On
I = [-theta rho, (1 - 2 theta) rho) the gradient at the perturbed point is f'(x + rho) = beta x, so x+ = (1 - lr beta) x: I is
never left, x -> 0, and

    |f'(x_T)| -> f'(0) = (1 - 2 theta) beta rho.

So the constant 1 in T4 is sharp as theta -> 0.

**Where it is attained.** At its own instance, from every start in I.

**For training.** The limit of SAM need not be a stationary point. No schedule of lr helps; a smaller rho, or no normalization,
does.

**Source.** Derived here; matches claim P3 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
"""

from __future__ import annotations

from collections.abc import Iterator

from .._problems import problems
from .._simulation.lr import InverseTime
from .._simulation.simulate import simulate
from .._statements.assume import step_below
from .._statements.cell import Cell
from .._statements.situation import Place
from .._statements.theorem import Theorem, register, scaled


def bound(*, theta: float, beta: float, rho: float, lr: float | None = None) -> float:
    """(1 - 2 theta) beta rho."""
    if lr is not None:
        step_below("trap", lr, 1 / beta, "1/beta", strict=False)
    return (1 - 2 * theta) * beta * rho


def trapped(theorem: Theorem, name: str, quick: bool) -> Iterator[Cell]:
    """Starts across I, for constant and decaying step sizes and several theta."""
    beta, rho = 2.0, 0.5
    for theta in (0.125,) if quick else (0.01, 0.125, 0.25, 0.45):
        f = problems()[name](theta=theta, beta=beta, rho=rho)
        starts = [-theta * rho, 0.3 * (1 - 2 * theta) * rho, 0.999 * (1 - 2 * theta) * rho]
        limit = theorem.bound(theta=theta, beta=beta, rho=rho)
        for label, lr in (("0.25", 0.25), ("1/beta", 1 / beta), ("1/(2t + 2)", InverseTime(4.0, 1.0))):
            run = simulate(f, method="sam", lr=lr, rho=rho, steps=4000, x0=starts, means=False)
            rounding = 1e-9 if isinstance(lr, float) else 2e-3  # lr ~ 1/t comes in like 1/T
            for start, slope in zip(starts, abs(f.gradient(run.x_final.values)), strict=True):
                yield Cell(
                    f"{name}, theta {theta:g}, lr {label}, x0 {start:.3g}", float(slope), "==", limit, tolerance=rounding
                )


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """The check of `trapped` on TRAP."""
    return trapped(theorem, "trap", quick)


TRAP = register(
    Theorem(
        id="trap",
        title="SAM, nonconvex: a trap with gradient (1 - 2 theta) beta rho",
        claims=("P3",),
        kind="lower",
        statement=__doc__,
        formula=bound,
        check=check,
        example={"theta": 0.125, "beta": 2.0, "rho": 0.5},
        golden=(({}, 0.75),),
        attained=True,
        places=(Place("exact", "nonconvex", "constant", all_the_way=False),),
        mutants={"1 % lower": scaled(bound, 0.99), "1 % higher": scaled(bound, 1.01)},
    )
)
