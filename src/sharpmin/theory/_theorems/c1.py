"""C1. The two-cycle: on a quadratic, SAM with constant rho converges to an alternation between two points.

**Assumptions.** f(x) = lam x^2/2, lr lam in (0, 2), constant rho. In several dimensions lam is the largest curvature.

**Statement.** x+ = (1 - s) x - s rho sign(x), s = lr lam, has the attracting cycle x = +-r, r = lr lam rho/(2 - lr lam),
with attraction factor |1 - s|, so

    f(x_t) - f* -> lam^3 lr^2 rho^2 / (2 (2 - lr lam)^2)    for almost every start.

In d dimensions the cycle lies along the top eigenvector, and attracts nearby starts. A start that lands on 0 exactly
stays there, such as x0 = rho at s = 1/2.

**Where it is attained.** Everywhere: the statement is an equality.

**For training.** A loss that stalls while consecutive gradients alternate in sign is this cycle. Its height falls with lr^2:
decay the learning rate, not only rho.

**Source.** Derived here; matches claim P1 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
"""

from __future__ import annotations

from collections.abc import Iterator

from .._problems import problems
from .._statements.assume import require
from .._statements.cell import Cell
from .._statements.confront import confront
from .._statements.situation import Place
from .._statements.theorem import Theorem, register, scaled


def bound(*, curvature: float, rho: float, lr: float) -> float:
    """lam^3 lr^2 rho^2/(2 (2 - lr lam)^2)."""
    require(lr * curvature < 2, "c1", f"lr={lr:g} must be below 2/curvature={2 / curvature:g}; beyond, SAM diverges")
    return curvature**3 * lr**2 * rho**2 / (2 * (2 - lr * curvature) ** 2)


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """Step sizes from lr lam = 0.05 to 1.9, in one dimension and along the top of three."""
    for curvatures, start in (([2.0], [0.7313]), ([2.0, 0.7, 0.1], [0.7313, 0.01, 0.01])):
        f = problems()["quadratic"](curvatures=curvatures)
        for s in (0.05, 0.3, 1.0, 1.9):
            k = {"curvature": curvatures[0], "rho": 0.7, "lr": s / curvatures[0]}
            where, x0 = f"quadratic in {f.dim} dimensions, lr lam {s:g}", start[0] if f.dim == 1 else start
            yield confront(theorem, where, f, k, steps=4000, x0=x0, relation="==")


C1 = register(
    Theorem(
        id="c1",
        title="SAM on a quadratic: the two-cycle and its gap",
        claims=("P1",),
        kind="tight",
        statement=__doc__,
        formula=bound,
        check=check,
        example={"curvature": 2.0, "rho": 0.7, "lr": 0.15},
        golden=(({}, 2.0 * 0.123529411764706**2 / 2),),
        attained=True,
        places=(Place("exact", "strongly-convex", "constant", rank=2),),
        mutants={"1 % lower": scaled(bound, 0.99), "1 % higher": scaled(bound, 1.01)},
    )
)
