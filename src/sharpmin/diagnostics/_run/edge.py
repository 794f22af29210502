"""SAM's edge of stability: the curvature beyond which its steps increase the loss."""

from __future__ import annotations

import math

from sharpmin.core.rho import finite


def edge_of_stability(gradient_norm: float, rho: float, lr: float, momentum: float = 0.0) -> float:
    """lam* = (||g|| / (2 rho)) (sqrt(1 + 4 c rho / ||g||) - 1), c = 2 (1 + b) / lr.

    Along an eigenvector of the Hessian with eigenvalue lam SAM's gradient is lam (1 + rho lam / ||g||) times the way to the
    minimum, and gradient descent with momentum b is stable while that factor is below c: lam* is where it is c. It goes to c,
    the edge of gradient descent, as rho goes to 0, and falls to 0 with the gradient: near a minimum SAM is stable
    nowhere, and jumps across it. Curvature along SAM's step (`Numbers.curvature`) near lam* says that the learning rate
    and rho hold it there. Source: Long & Bartlett, Sharpness-Aware Minimization and the Edge of Stability, 2024,
    arXiv:2309.12488 (b = 0).

    Args:
        gradient_norm: ||g||, >= 0.
        rho: the radius, >= 0.
        lr: the learning rate, > 0, of SGD.
        momentum: b, of the heavy ball without dampening, at least 0 and below 1.

    Raises:
        TypeError, ValueError: for numbers out of range.

    >>> edge_of_stability(1.0, rho=0.0, lr=0.1)
    20.0
    >>> edge_of_stability(1.0, rho=0.1, lr=0.1)
    10.0
    """
    owner = "edge_of_stability"
    norm, radius = finite(gradient_norm, "gradient_norm", owner, low=0), finite(rho, "rho", owner, low=0)
    rate = finite(lr, "lr", owner, low=0, strict=True)
    if finite(momentum, "momentum", owner, low=0) >= 1:
        raise ValueError(f"{owner}: momentum={momentum!r}; momentum must be at least 0 and below 1")
    top = 2 * (1 + momentum) / rate
    if norm == 0:
        return top if radius == 0 else 0.0
    return 2 * top / (1 + math.sqrt(1 + 4 * top * radius / norm))  # lam* in a form without cancellation
