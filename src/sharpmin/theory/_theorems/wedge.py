"""WEDGE. A quadratic that is flat along a narrow wedge has an attracting two-cycle whose gap far exceeds that of a quadratic.

**Assumptions.** rho constant; slope s > 0, tan a = s mu/beta; a constant lr < 2 cos^2 a/beta + 2 sin^2 a/mu.

**Statement.** Let f(z) = mu ||z||^2/2 + (beta - mu)/2 dist(z, W)^2, W = {|z_2| <= tan(a) z_1}: `problems()["wedge"]`. SAM
alternates between two points (z_1, +-z_2). With r, the one positive solution of

    cos^2 a/(beta (1 + r beta)) + sin^2 a/(mu (1 + r mu)) = lr/2,

the gap there is

    rho^2/(2 r^2) [cos^2 a/(beta (1 + r beta)^2) + sin^2 a/(mu (1 + r mu)^2)] / [cos^2 a/(1 + r beta)^2 + sin^2 a/(1 + r mu)^2].

**Where it is attained.** Everywhere: the statement is an equality. Over the gap of the quadratic of curvature beta (C1), and
over the F of T1, it is 1.807 and .179 at kappa 10, beta lr .01, s .61; 4.66 and .155 at 30, .0033, .68; 14.8 and .148 at
100, .001, .72. That the cycle attracts is measured, at these three: all of 16 starts around it at .4 z_2 come back to it, of
those at .8 z_2 8 to 11. z_2/z_1 is .23, .073, .022 there, so the basin narrows as kappa grows.

**For training.** In a narrow valley that widens, SAM keeps alternating between its sides and does not descend along it.

**Source.** Derived here; matches claim P1 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
"""

from __future__ import annotations

from collections.abc import Iterator

from .._problems import problems
from .._problems.wedge import cycle
from .._statements.cell import Cell
from .._statements.situation import Place
from .._statements.theorem import Theorem, register, scaled
from .kappa2 import kept

CASES = ((10.0, 0.01, 0.61), (30.0, 0.0033, 0.68), (100.0, 0.001, 0.72))


def bound(*, beta: float, mu: float, rho: float, lr: float, slope: float) -> float:
    """The gap on the two-cycle."""
    return cycle("wedge", beta=beta, mu=mu, rho=rho, lr=lr, slope=slope)[1]


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """Starts on the cycle and around it, at the slopes that are about the worst for their lr."""
    beta, rho = 2.0, 0.7
    for kappa, step, slope in CASES[:2] if quick else CASES:
        k = {"beta": beta, "mu": beta / kappa, "rho": rho, "lr": step / beta, "slope": slope}
        point, where = cycle("wedge", **k)[0], f"kappa {kappa:g}, beta lr {step:g}, s {slope:g}"
        yield from kept(problems()["wedge"](**k), point, theorem.bound(**k), lr=step / beta, rho=rho, share=0.1, where=where)


WEDGE = register(
    Theorem(
        id="wedge",
        title="SAM on a wedge: an attracting two-cycle, its gap of order kappa times a quadratic's",
        claims=("P1",),
        kind="tight",
        statement=__doc__,
        formula=bound,
        check=check,
        example={"beta": 1.0, "mu": 0.1, "rho": 1.0, "lr": 0.01, "slope": 0.61},
        attained=True,
        places=(Place("exact", "strongly-convex", "constant", rank=4),),
        mutants={
            "1 % lower": scaled(bound, 0.99),
            "1 % higher": scaled(bound, 1.01),
            "no wedge": lambda **k: bound(**{**k, "slope": 1e-9}),
        },
    )
)
