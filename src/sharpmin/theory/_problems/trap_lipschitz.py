"""TRAP with a bounded gradient: f' clipped at +-beta rho outside [-2 rho, 2 rho]."""

from __future__ import annotations

from .._statements.assume import numbers
from .hinge import Hinge, HingeProblem
from .registry import problem


def lipschitz_trap_derivative(theta: float, beta: float, rho: float) -> Hinge:
    """f' of TRAP inside [-2 rho, 2 rho], constant outside, where it is -beta rho and beta rho."""
    top = beta * rho * (1 - theta)
    points = [(-2 * rho, -beta * rho), (-theta * rho, top), ((1 - theta) * rho, -theta * beta * rho), (2 * rho, beta * rho)]
    return Hinge.through(points, left=0.0, right=0.0)


@problem("trap-lipschitz")
def trap_lipschitz(*, theta: float, beta: float, rho: float) -> HingeProblem:
    """TRAP whose gradient is bounded by beta rho: the lower bound needs no unbounded gradient.

    Raises:
        ValueError: unless theta is in (0, 1/2) and beta, rho > 0.

    >>> import numpy as np
    >>> trap_lipschitz(theta=0.125, beta=2.0, rho=0.5).gradient(np.array([-9.0, 0.0, 9.0]))
    array([-1.  ,  0.75,  1.  ])
    """
    numbers("trap-lipschitz", {"theta": theta, "beta": beta, "rho": rho})
    if rho == 0:
        raise ValueError("trap-lipschitz: rho=0 must be > 0; with rho = 0 there is no trap")
    return HingeProblem("trap-lipschitz", (lipschitz_trap_derivative(theta, beta, rho),))
