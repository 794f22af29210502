"""E1: a strongly convex mean of two samples on which m-SAM never leaves an interval away from the optimum."""

from __future__ import annotations

from .._statements.assume import numbers, require
from .hinge import Hinge, HingeProblem
from .registry import problem


def e1_shape(beta: float, mu: float, rho: float, w: float | None, c: float | None) -> tuple[float, float]:
    """The half width w and the center c of the interval that traps m-SAM; by default rho / 16 and 0.9 c_max.

    Raises:
        ValueError: unless w is in (0, rho/2) and w < c < c_max = ((beta - mu)(rho - 2w) - mu (rho + w)) / (2 mu).
    """
    w = rho / 16 if w is None else w
    require(0 < w < rho / 2, "e1", f"w={w:g} must be in (0, rho/2)=(0, {rho / 2:g})")
    c_max = ((beta - mu) * (rho - 2 * w) - mu * (rho + w)) / (2 * mu)
    c = 0.9 * c_max if c is None else c
    require(w < c < c_max, "e1", f"c={c:g} must be in (w, c_max)=({w:g}, {c_max:g}) at kappa=beta/mu={beta / mu:g}; "
            "with the default w and c that needs kappa > 2.3730")  # fmt: skip
    return w, c


@problem("e1")
def e1(*, beta: float, mu: float, rho: float, w: float | None = None, c: float | None = None) -> HingeProblem:
    """f = mu x^2 / 2 and l'_+- = mu x +- s(x), each with probability 1/2 and beta-smooth.

    Raises:
        ValueError: outside the conditions of statement E1.

    >>> f = e1(beta=1.0, mu=0.1, rho=1.0)
    >>> f.beta, f.beta_component, round(f.sigma, 7)
    (0.1, 1.0, 0.4065625)
    """
    numbers("e1", {"beta": beta, "mu": mu, "rho": rho, "w": w, "c": c})
    w, c = e1_shape(beta, mu, rho, w, c)
    top = -mu * (c + rho) + (beta - mu) * (rho - 2 * w)
    points = [(c - rho + w, mu * (c - rho)), (c - w, top), (c + w, top), (c + rho - w, -mu * (c + rho))]
    s, f = Hinge.through(points, left=0.0, right=0.0), Hinge(b=mu)
    return HingeProblem("e1", (f + s, f - s), (0.5, 0.5))
