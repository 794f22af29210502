"""The quantities that statements bound, computed from a run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from sharpmin.core.extras import optional

from .._problems.hinge import HingeProblem
from .._problems.problem import Problem
from .situation import QUANTITIES

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr

    from .._problems.problem import Array
else:
    np = optional("numpy", extra="lab")


def kept(quantity: str, steps: int) -> dict[str, Any]:
    """The keywords of `simulate` that make it keep all that `statistic` needs for this quantity."""
    means = quantity not in ("gap", "mean-gap", "squared-distance")
    return {"means": means, "record": range(steps + 1) if quantity == "mean-gap" else ()}


def statistic(problem: Problem, run: xr.Dataset, quantity: str) -> Array:
    """The quantity of every lane of a run of `simulate`, before the mean over the noise is taken; shape (lanes,).

    Args:
        problem: the problem of the run.
        run: the result of `simulate` with `means`, and for "mean-gap" with every step recorded.
        quantity: "gap", f(x_T) - f*; "mean-gap" and "perturbed-gap", mean over t < T of f(x_t) - f* and of f(y_t) - f*;
            "squared-gradient" and "least-squared-gradient", mean and least over t < T of ||grad f(x_t)||^2;
            "squared-distance", ||x_T - x*||^2 to the nearest minimizer.

    Raises:
        ValueError: for another quantity, or a distance where no minimizer is known.

    >>> from sharpmin.theory import problems, simulate
    >>> f = problems()["quadratic"](curvatures=[2.0])
    >>> statistic(f, simulate(f, method="gd", lr=0.25, steps=1, x0=2.0), "gap")
    array([1.])
    """
    if quantity not in QUANTITIES:
        raise ValueError(f"statistic: quantity={quantity!r} must be one of {', '.join(QUANTITIES)}")
    if quantity == "gap":
        return problem.gap(run.x_final.values)
    if quantity == "squared-distance":
        return distance(problem, run.x_final.values) ** 2
    if quantity == "mean-gap":
        return np.asarray(run.value.values[:-1].mean(axis=0) - problem.f_star)
    names = {
        "squared-gradient": "mean_square_gradient",
        "least-squared-gradient": "min_square_gradient",
        "perturbed-gap": "mean_perturbed_gap",
    }
    return np.asarray(run[names[quantity]].values)


def standard_error(values: Array) -> float:
    """The standard error of the mean over lanes; 0 for a single lane."""
    return float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else 0.0


def distance(problem: Problem, x: Array, minimizer: Any = None) -> Array:
    """||x - x*||, shape (lanes,): to `minimizer`, for hinge sums to the nearest one, else to 0 if the gradient vanishes there.

    Raises:
        ValueError: where no minimizer is known.
    """
    if minimizer is not None:
        return problem.norm(x - np.asarray(minimizer, dtype=np.float64))
    if isinstance(problem, HingeProblem):
        least, most = problem.minimizers[0], problem.minimizers[-1]
        return np.asarray(np.maximum(0.0, np.maximum(least - x, x - most)))
    slope = float(problem.norm(problem.gradient(np.zeros(1 if problem.dim == 1 else (1, problem.dim))))[0])
    if slope > 1e-9 * problem.beta:
        raise ValueError(f"{problem.name}: no minimizer is known, and 0 has a gradient of {slope:.3g}; take another quantity")
    return problem.norm(x)


def start_gap(problem: Problem, x0: float) -> float:
    """f(x0) - f* of a problem in one dimension, called Delta in bounds."""
    return float(problem.gap(np.array([x0]))[0])
