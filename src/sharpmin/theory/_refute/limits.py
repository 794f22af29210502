"""The bound for every lane of a population, and the step sizes at which it is taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sharpmin.core.extras import optional

from .conjecture import WITH_MU, Conjecture
from .genes import Constants, constants_of, step_sizes
from .population import Functions

if TYPE_CHECKING:
    import numpy as np

    from .._problems.problem import Array
else:
    np = optional("numpy", extra="lab")

_LEAST = 1e6
"""A bound below this multiple of the rounding error of the measured quantity is not compared."""


def limits_of(conjecture: Conjecture, s: Constants, f: Functions, x0: Array) -> tuple[Array, Array]:
    """Bounds and step sizes of all lanes; nan where the bound does not apply or the function is outside the class."""
    delta = np.maximum(0.0, f.gap(x0[:, None])[:, 0])
    away = np.sqrt(((x0 - f.minimizer) ** 2).sum(axis=1))
    low, high = conjecture.ranges["kappa"]
    limits = np.full(len(delta), np.nan)
    lr = np.zeros((int(s.steps.max()), len(delta)))
    for i in range(len(delta)):
        beta, mu = float(f.beta[i]), claimed_mu(conjecture, float(f.beta[i]), float(f.mu[i]))
        told = constants_of(conjecture, s, i, {
            "beta": beta, "mu": mu, "delta": float(delta[i]), "distance": float(away[i]), "sigma": float(f.sigma[i]),
            "beta_component": float(f.beta_component[i]),
        })  # fmt: skip
        if mu != 0 and not low * (1 - 1e-9) <= beta / mu <= high * (1 + 1e-9):
            continue
        if mu == 0 and conjecture.setting in WITH_MU:
            continue
        rate = step_sizes(conjecture, told)
        lr[: s.steps[i], i] = [rate(t) for t in range(s.steps[i])] if callable(rate) else rate
        limit = conjecture.limit(told)
        if limit > _LEAST * f.resolution[i] and np.isfinite(lr[0, i]):
            limits[i] = limit
    return limits, lr


def claimed_mu(conjecture: Conjecture, beta: float, mu: float) -> float:
    """The mu given to the bound: at most that of f, and so small that beta/mu lies in the range of kappa."""
    return min(mu, beta / conjecture.ranges["kappa"][0])
