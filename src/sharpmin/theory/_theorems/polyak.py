"""Not a remedy: a Polyak step size. With constant rho it does not take SAM to the optimum, even on a parabola.

**Assumptions.** f = lam x^2/2, f* known, constant normalized rho, e = rho g/||g||, y = x + e, x+ = x - lr_t grad f(y).

**Statement.** Polyak's step for SAM projects x on the zero of f's linearization at y,

    lr_t = max{0, f(y) - f* - <grad f(y), e>} / ||grad f(y)||^2.

It is 0 wherever |x| <= rho, and halves |x| - rho beyond: from |x0| >= rho SAM stops at |x| = rho, at a gap of

    lam rho^2/2.

Without the inner product, lr_t = (f(y) - f*)/||grad f(y)||^2 is the constant 1/(2 lam) here: a two-cycle at |x| = rho/3 (C1),
a ninth of that gap.

**Where it is attained.** Everywhere: the statement is an equality.

**For training.** T1 needs a step size that falls with T. One computed from the loss at the perturbed point does not fall.

**Source.** Derived here; matches claim P1 of Si & Yun (NeurIPS 2023, arXiv:2306.09850), by contrast.
"""

from __future__ import annotations

from collections.abc import Iterator

from .._statements.cell import Cell
from .._statements.theorem import Theorem, register, scaled, without


def bound(*, curvature: float, rho: float) -> float:
    """lam rho^2/2."""
    return curvature * rho**2 / 2


def step(lam: float, rho: float, x: float, *, projected: bool) -> float:
    """One step of SAM on lam x^2/2 with a Polyak step size; at the optimum x stays."""
    e = rho if x > 0 else -rho if x < 0 else 0.0
    y = x + e
    g, value = lam * y, lam * y * y / 2
    if g == 0:
        return x
    lr = max(0.0, value - g * e) / g**2 if projected else value / g**2
    return x - lr * g


def run(lam: float, rho: float, x: float, *, projected: bool) -> float:
    """The gap after 200 steps."""
    for _ in range(200):
        x = step(lam, rho, x, projected=projected)
    return lam * x * x / 2


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """Starts outside rho, whose gap falls to the bound; inside rho, where nothing moves; and the simple rule."""
    for lam, rho in ((1.0, 0.5), (4.0, 0.1), (0.3, 2.0)):
        limit = theorem.bound(curvature=lam, rho=rho)
        for start in (1.0, 1.7, -40.0):
            gap = run(lam, rho, start * rho, projected=True)
            yield Cell(f"projected, lam {lam:g}, rho {rho:g}, x0 {start:g} rho", gap, "==", limit)
            gap = run(lam, rho, start * rho * 0.9, projected=False)
            yield Cell(f"simple, lam {lam:g}, rho {rho:g}, x0 {0.9 * start:g} rho: 9 times the gap", 9 * gap, "==", limit)
        gap = run(lam, rho, 0.6 * rho, projected=True)
        yield Cell(f"projected, lam {lam:g}, rho {rho:g}, x0 0.6 rho: unmoved", gap / 0.36, "==", limit)


POLYAK = register(
    Theorem(
        id="polyak",
        title="not a remedy: SAM with a Polyak step stops at |x| = rho",
        claims=("P1",),
        kind="tight",
        statement=__doc__,
        formula=bound,
        check=check,
        example={"curvature": 2.0, "rho": 0.5},
        golden=(({}, 0.25),),
        attained=True,
        mutants={"1 % lower": scaled(bound, 0.99), "1 % higher": scaled(bound, 1.01), "no rho term": without(bound, rho=0.0)},
    )
)
