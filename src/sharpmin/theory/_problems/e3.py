"""E3: two quadratic samples with unequal weights; m-SAM is pulled from their mean to their median."""

from __future__ import annotations

from .._statements.assume import numbers, require
from .hinge import Hinge, HingeProblem
from .registry import problem


def e3_spread(p: float, rho: float, c: float | None) -> float:
    """The position c of the rarer sample; by default 3 max{rho, rho (1 - 2p)(1 - p)/p}.

    Raises:
        ValueError: unless c > rho (1 - 2p)(1 - p)/p and c > 0.
    """
    threshold = rho * (1 - 2 * p) * (1 - p) / p
    c = (3 * max(rho, threshold) or 1.0) if c is None else c
    require(c > threshold, "e3", f"c={c:g} must exceed rho (1-2p)(1-p)/p={threshold:g}")
    return c


@problem("e3")
def e3(*, p: float, rho: float, beta: float = 1.0, c: float | None = None) -> HingeProblem:
    """l(x; xi) = (beta/2)(x - xi)^2 with P(xi = c) = p <= 1/2, P(xi = -pc/(1-p)) = 1 - p; the optimum is 0.

    Raises:
        ValueError: outside the conditions of statement E3.

    >>> f = e3(p=0.5, rho=1.0, c=1.0)
    >>> f.beta, f.sigma, f.minimizers
    (1.0, 1.0, [0.0])
    """
    numbers("e3", {"p": p, "rho": rho, "beta": beta, "c": c})
    c = e3_spread(p, rho, c)
    places = (c, -p * c / (1 - p))
    return HingeProblem("e3", tuple(Hinge(-beta * xi, beta) for xi in places), (p, 1 - p))
