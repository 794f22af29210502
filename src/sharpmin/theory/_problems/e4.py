"""E4: a convex Lipschitz mean of two samples on which m-SAM does not move at all, at any distance d from the optimum."""

from __future__ import annotations

from .._statements.assume import numbers, require
from .hinge import Hinge, HingeProblem
from .registry import problem


def e4_conditions(beta: float, rho: float, d: float) -> float:
    """The Lipschitz constant L0 = 0.45 beta rho; requires d >= 1.5 rho."""
    require(d >= 1.5 * rho, "e4", f"d={d:g} must be at least 1.5 rho={1.5 * rho:g}")
    return 0.45 * beta * rho


@problem("e4")
def e4(*, beta: float, rho: float, d: float) -> HingeProblem:
    """f' = clip(beta x, -L0, L0) and l'_+- = f' +- s, each with probability 1/2 and beta-smooth; m-SAM rests at d.

    Raises:
        ValueError: outside the conditions of statement E4.

    >>> f = e4(beta=1.0, rho=1.0, d=50.0)
    >>> f.beta, f.beta_component, f.minimizers
    (1.0, 1.0, [0.0])
    """
    numbers("e4", {"beta": beta, "rho": rho, "d": d})
    require(rho > 0, "e4", f"rho={rho:g} must be > 0; with rho = 0 nothing holds m-SAM")
    slope, w = e4_conditions(beta, rho, d), rho / 32
    top = beta * (rho - 2 * w) - slope
    f = Hinge.through([(-slope / beta, -slope), (slope / beta, slope)], left=0.0, right=0.0)
    points = [(d - rho + w, slope), (d - w, top), (d + w, top), (d + rho - w, -slope)]
    s = Hinge.through(points, left=0.0, right=0.0)
    return HingeProblem("e4", (f + s, f - s), (0.5, 0.5))
