"""A smooth function that is not a quadratic: beta-smooth, mu-strongly convex or, for mu = 0, convex."""

from __future__ import annotations

from sharpmin.core.rho import positive_integer

from .._statements.assume import numbers
from .dense import LogCosh
from .registry import problem


@problem("logcosh")
def logcosh(*, beta: float, mu: float = 0.0, dim: int = 1) -> LogCosh:
    """f(x) = sum_i (beta - mu) log cosh(x_i) + mu x_i^2 / 2.

    Raises:
        ValueError: unless 0 <= mu <= beta, beta > 0, dim >= 1.

    >>> logcosh(beta=1.0, mu=0.1).beta
    1.0
    """
    numbers("logcosh", {"beta": beta, **({"mu": mu} if mu != 0 else {})})
    return LogCosh("log-cosh", positive_integer(dim, "dim", "logcosh"), float(beta), float(mu))
