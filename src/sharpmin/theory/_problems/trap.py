"""TRAP: a nonconvex function on which constant rho holds SAM at a point with gradient (1 - 2 theta) beta rho."""

from __future__ import annotations

from .._statements.assume import numbers
from .hinge import Hinge, HingeProblem
from .registry import problem


def trap_derivative(theta: float, beta: float, rho: float) -> Hinge:
    """f': slope beta, then -beta on [-theta rho, (1 - theta) rho], then beta again; f* = 0 at -rho."""
    return Hinge(beta * rho, beta, ((-theta * rho, -2 * beta), ((1 - theta) * rho, 2 * beta)))


@problem("trap")
def trap(*, theta: float, beta: float, rho: float) -> HingeProblem:
    """The function of statement TRAP. From [-theta rho, (1 - 2 theta) rho) SAM goes to 0, for every lr <= 1/beta.

    Raises:
        ValueError: unless theta is in (0, 1/2) and beta, rho > 0.

    >>> import numpy as np
    >>> f = trap(theta=0.125, beta=2.0, rho=0.5)
    >>> f.gradient(np.zeros(1)), f.value(np.array([0.0, 0.5]))
    (array([0.75]), array([0.2421875, 0.375    ]))
    """
    numbers("trap", {"theta": theta, "beta": beta, "rho": rho})
    if rho == 0:
        raise ValueError("trap: rho=0 must be > 0; with rho = 0 there is no trap")
    return HingeProblem("trap", (trap_derivative(theta, beta, rho),))
