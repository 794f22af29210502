"""Shared by the statements on real data: constants and runs of softmax regression on the digits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sharpmin.core.extras import optional

from .._problems import problems
from .._problems.softmax import SoftmaxRegression
from .._simulation.simulate import simulate

if TYPE_CHECKING:
    import numpy as np

    from .._problems.problem import Array
else:
    np = optional("numpy", extra="lab")


def digits() -> tuple[SoftmaxRegression, dict[str, float]]:
    """The problem (l2 = 0.1, batch 32) and its beta, mu and Delta from W0 = 0."""
    f = problems()["digits"]()
    if not isinstance(f, SoftmaxRegression):
        raise TypeError("digits is a softmax regression")
    return f, {"beta": f.beta, "mu": f.mu, "delta": float(f.gap(np.zeros((1, f.dim)))[0])}


def final_gap(method: str, *, lr: Any, rho: Any, steps: int, seeds: Any = 0) -> Array:
    """f(W_T) - f* per lane, from W0 = 0."""
    f, _ = digits()
    run = simulate(f, method=method, lr=lr, rho=rho, steps=steps, x0=np.zeros(f.dim), seeds=seeds, means=False)
    return f.gap(run.x_final.values)
