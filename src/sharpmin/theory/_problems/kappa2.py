"""KAPPA2: a function of the plane with a two-cycle of SAM whose gap is of order kappa times that of any quadratic."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sharpmin.core.extras import optional

from .._statements.assume import numbers, require
from .pieces import Pieces, rounded_maximum
from .registry import problem

if TYPE_CHECKING:
    import numpy as np
else:
    np = optional("numpy", extra="lab")

E, THETA = (0.6, 0.8), 0.75


@problem("kappa2")
def kappa2(*, beta: float, mu: float, rho: float, lr: float) -> Pieces:
    """The function of statement KAPPA2, on which SAM with this lr and rho alternates between two points of the plane.

    In units beta = rho = 1, with e = (3/5, 4/5), theta = 3/4, q = lr theta/2 and L = 1 - mu, it is mu ||z||^2/2 plus the Moreau
    envelope (of parameter 1/L) of the maximum of four affine functions, one for each point x_+- of the cycle and for each
    perturbed point y_+-:

    ```
    x_+- = (0, +-q e_2)                gradient  q (e_1, +-e_2)
    y_+- = x_+- + (e_1, +-e_2)         gradient  theta (0, +-e_2)
    ```
    The minimizer is (-q e_1/mu, 0). docs/kappa.md derives all of this, and when such a function exists: see `largest_lr`.

    Raises:
        ValueError: unless beta, mu, rho, lr > 0 and lr is small enough for beta/mu, which must exceed 13/3.

    >>> f = kappa2(beta=1.0, mu=0.01, rho=1.0, lr=0.05)
    >>> f.gap(np.array([[0.0, 0.015], [-1.125, 0.0]])).round(6) + 0.0
    array([0.006441, 0.      ])
    """
    numbers("kappa2", {"beta": beta, "mu": mu, "rho": rho, "lr": lr})
    require(rho > 0, "kappa2", f"rho={rho:g} must be > 0; with rho = 0 there is no cycle")
    feasible("kappa2", beta, mu, lr)
    return two_cycle(mu / beta, beta * lr).scaled(rho, beta * rho**2)


def feasible(owner: str, beta: float, mu: float, lr: float) -> None:
    """Raise `ValueError` where no mu-strongly convex, beta-smooth function goes through the five points."""
    kappa = beta / mu
    most = largest_lr(kappa)
    require(most > 0, owner, f"beta/mu={kappa:g} must exceed 13/3 = 4.33..., or no such function exists for any lr; lower mu")
    holds = beta * lr <= most * (1 + 1e-12)
    require(holds, owner, f"lr={lr:g} must be at most {most / beta:.6g} for beta/mu={kappa:g}, or no such function exists")


def largest_lr(kappa: float) -> float:
    """The largest beta lr for which the function exists: 0 up to kappa = 13/3, at least 1/(2 sqrt kappa) from kappa = 8 on.

    With m = kappa^(-1/2) and t = theta beta lr/(2 m), `room` vanishes there: 3 - 13 m^2 = (10 m + 16 m^3) t + (9 + 16 m^2) t^2.

    >>> round(largest_lr(100.0), 6), largest_lr(4.0)
    (0.135208, 0.0)
    """
    m = kappa**-0.5
    half, square, rest = 5 * m + 8 * m**3, 9 + 16 * m * m, 3 - 13 * m * m
    return 0.0 if rest <= 0 else 2 * m / THETA * rest / (half + math.sqrt(half * half + square * rest))


def room(mu: float, lr: float, e: tuple[float, float], theta: float) -> float:
    """e_2^2 (theta - mu - q)(1 + q - theta) - e_1^2 (mu + q)^2/mu at beta = rho = 1: the function exists where it is >= 0."""
    q = lr * theta / 2
    return e[1] ** 2 * (theta - mu - q) * (1 + q - theta) - e[0] ** 2 * (mu + q) ** 2 / mu


def gap(mu: float, lr: float, e: tuple[float, float] = E, theta: float = THETA) -> float:
    """theta^2/8 (e_1^2/mu + e_2^2) lr^2: f - f* on the cycle at beta = rho = 1."""
    return theta**2 / 8 * (e[0] ** 2 / mu + e[1] ** 2) * lr**2


def worst_shape(mu: float) -> tuple[tuple[float, float], float]:
    """The e and theta with the largest gap as lr -> 0, at beta = rho = 1.

    There e_1^2 mu = e_2^2 (theta - mu)(1 - theta), so the gap over lr^2/(8 mu) is theta^2 - mu (1 - mu) theta/(1 + mu - theta),
    whose derivative falls through 0 where 2 theta (1 + mu - theta)^2 = mu (1 - mu^2).
    """
    low, high = (1 + mu) / 3, 1.0
    for _ in range(60):
        theta = (low + high) / 2
        low, high = (theta, high) if 2 * theta * (1 + mu - theta) ** 2 > mu * (1 - mu**2) else (low, theta)
    square = mu / (low * (1 + mu - low))  # e_2^2
    return (math.sqrt(1 - square), math.sqrt(square)), low


def two_cycle(mu: float, lr: float, e: tuple[float, float] = E, theta: float = THETA) -> Pieces:
    """The function with the cycle of any e and theta for which `room` is >= 0, at beta = rho = 1."""
    q, smooth, (e1, e2) = theta * lr / 2, 1 - mu, e
    x, y = np.array([0.0, q * e2]), np.array([e1, q * e2 + e2])
    at_x, at_y = np.array([q * e1, q * e2]) - mu * x, np.array([0.0, theta * e2]) - mu * y
    height = gap(mu, lr, e, theta)
    # The line of x goes through the value that the two-cycle has; that of y may lie anywhere between two limits.
    line_x = height - mu / 2 * (x @ x) - at_x @ x + at_x @ at_x / (2 * smooth)
    ends = y - at_y / smooth, np.array([-q * e1 / (mu * smooth), 0.0])  # w of y and of the minimizer
    line_y = sum((at_x - at_y) @ w + line_x for w in ends) / 2
    lines = np.array([[*at_x, line_x], [*at_y, line_y]])
    both = np.concatenate([lines, lines * [1.0, -1.0, 1.0]])
    return rounded_maximum("kappa2", both, beta=1.0, mu=mu, rounding=1e-15 * height)
