"""WEDGE: a quadratic that is flat along a narrow wedge, with an attracting two-cycle of SAM across it."""

from __future__ import annotations

import math

from sharpmin.core.rho import finite

from .._statements.assume import numbers, require
from .pieces import Pieces
from .registry import problem
from .wedge_shape import wedge_shape


def cycle(owner: str, *, beta: float, mu: float, rho: float, lr: float, slope: float) -> tuple[tuple[float, float], float]:
    """The point (z_1, z_2) of the two-cycle (z_1, +-z_2), and its gap.

    r = rho/||grad f|| there solves cos^2 a/(beta (1 + r beta)) + sin^2 a/(mu (1 + r mu)) = lr/2.

    Raises:
        TypeError: unless slope is a number.
        ValueError: unless slope > 0 and lr is below 2 cos^2 a/beta + 2 sin^2 a/mu, beyond which there is no such cycle.
    """
    angle = math.atan(finite(slope, "slope", owner, low=0, strict=True) * mu / beta)
    across, along = math.cos(angle), math.sin(angle)

    def excess(r: float) -> float:
        return across**2 / (beta * (1 + r * beta)) + along**2 / (mu * (1 + r * mu)) - lr / 2

    require(
        excess(0.0) > 0, owner, f"lr={lr:g} must be below {2 * excess(0.0) + lr:g}; beyond, this function has no such cycle"
    )
    low, high = 0.0, 1 / beta
    while excess(high) > 0:
        low, high = high, 2 * high
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    r = high
    n, t = across / (beta * (1 + r * beta)), along / (mu * (1 + r * mu))  # up to a factor, z across and along the edge
    factor = rho / (r * math.hypot(beta * n, mu * t))
    point = factor * (t * across - n * along), factor * (n * across + t * along)
    return point, factor**2 / 2 * (beta * n**2 + mu * t**2)


@problem("wedge")
def wedge(*, beta: float, mu: float, rho: float, lr: float, slope: float) -> Pieces:
    """f(z) = mu ||z||^2/2 + (beta - mu)/2 dist(z, W)^2, W = {|z_2| <= tan(a) z_1}, tan a = slope mu/beta; f* = 0 at 0.

    The function is mu-strongly convex and beta-smooth. It does not depend on rho and lr: they serve to check that SAM has a
    two-cycle for this slope.

    Raises:
        TypeError: unless all are numbers.
        ValueError: unless beta, mu, rho, lr, slope > 0 and lr is below 2 cos^2 a/beta + 2 sin^2 a/mu.

    >>> import numpy as np
    >>> wedge(beta=1.0, mu=0.1, rho=1.0, lr=0.01, slope=0.61).gradient(np.array([[1.0, 0.0], [-1.0, 0.0]]))
    array([[ 0.1,  0. ],
           [-1. ,  0. ]])
    """
    numbers("wedge", {"beta": beta, "mu": mu, "rho": rho, "lr": lr})
    require(rho > 0, "wedge", f"rho={rho:g} must be > 0; with rho = 0 there is no cycle")
    cycle("wedge", beta=beta, mu=mu, rho=rho, lr=lr, slope=slope)
    return wedge_shape(beta, mu, slope * mu / beta)
