"""E2: a strongly convex mean of two samples on which m-SAM moves away from the optimum, from every start, as lr -> 0."""

from __future__ import annotations

from .._statements.assume import numbers, require
from .hinge import Hinge, HingeProblem
from .registry import problem


@problem("e2")
def e2(*, beta: float, mu: float, rho: float) -> HingeProblem:
    """f = mu x^2 / 2 and l'_+- = mu x +- s(x), each with probability 1/2 and beta-smooth.

    With m = beta - mu, xb = (kappa - 1) rho, W = 2 xb: s falls with slope -m on [xb - rho - W, xb + rho + W], is constant
    outside, and s(xb) = m rho + beta W + margin, margin = m rho/100. So s > mu x on xb +- W.

    Raises:
        ValueError: unless mu < beta and rho > 0.

    >>> f = e2(beta=2.0, mu=1.0, rho=0.5)
    >>> f.beta, f.beta_component, f.minimizers
    (1.0, 2.0, [0.0])
    """
    numbers("e2", {"beta": beta, "mu": mu, "rho": rho})
    require(mu < beta and rho > 0, "e2", f"mu={mu:g} must be below beta={beta:g} and rho={rho:g} > 0; else the limit is 0")
    m, xb = beta - mu, (beta / mu - 1) * rho
    width, half = 2 * xb, 2 * xb + rho
    center = 1.01 * m * rho + beta * width
    s = Hinge.through([(xb - half, center + m * half), (xb + half, center - m * half)], left=0.0, right=0.0)
    f = Hinge(b=mu)
    return HingeProblem("e2", (f + s, f - s), (0.5, 0.5))
