"""E5: the Lipschitz trap with noise of constant size, too small for SAM to leave the trap."""

from __future__ import annotations

from .._statements.assume import numbers, require
from .hinge import Hinge, HingeProblem
from .registry import problem
from .trap_lipschitz import lipschitz_trap_derivative


def e5_conditions(theta: float, s: float, beta: float, rho: float) -> None:
    """Require 0 < s < beta rho min(theta, (1 - 2 theta)/2)."""
    limit = beta * rho * min(theta, (1 - 2 * theta) / 2)
    require(0 < s < limit, "e5", f"s={s:g} must be in (0, beta rho min(theta, (1-2 theta)/2))=(0, {limit:g})")


@problem("e5")
def e5(*, theta: float, s: float, beta: float, rho: float) -> HingeProblem:
    """l'_+- = f' +- s, each with probability 1/2, f the Lipschitz trap; from |x0| <= s/beta SAM stays there for ever.

    Raises:
        ValueError: outside the conditions of statement E5.

    >>> round(e5(theta=0.25, s=0.1, beta=1.0, rho=1.0).sigma, 12)
    0.1
    """
    numbers("e5", {"theta": theta, "s": s, "beta": beta, "rho": rho})
    e5_conditions(theta, s, beta, rho)
    f, noise = lipschitz_trap_derivative(theta, beta, rho), Hinge(s)
    return HingeProblem("e5", (f + noise, f - noise), (0.5, 0.5))
