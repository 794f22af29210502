"""The statement whose worst case this function is, and how SAM behaves on it."""

# Copy to src/sharpmin/theory/_problems/x1.py and add `x1` to the import in that folder's __init__.py.

from __future__ import annotations

from sharpmin.theory._problems.hinge import Hinge, HingeProblem
from sharpmin.theory._problems.registry import problem
from sharpmin.theory._statements.assume import numbers


@problem("x1")
def x1(*, beta: float, rho: float) -> HingeProblem:
    """The derivative, in words or as a formula; the optimum.

    Raises:
        ValueError: if the conditions of the statement do not hold.

    >>> x1(beta=2.0, rho=0.5).beta
    2.0
    """
    numbers("x1", {"beta": beta, "rho": rho})
    f = Hinge.through([(-rho, -beta * rho), (rho, beta * rho)], left=0.0, right=0.0)
    return HingeProblem("x1", (f,))
