"""`expect`: the expectations of a short stochastic run, exactly, as sums over all of its sample paths."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sharpmin.core.extras import optional
from sharpmin.core.rho import RhoSchedule, StepInfo

from .._problems.dense import Noisy
from .._problems.hinge import HingeProblem
from .._problems.own import OwnProblem
from .._simulation.oracle import Oracle
from .._simulation.run import CheckedRun, prepare
from .._statements.statistic import distance

if TYPE_CHECKING:
    import numpy as np

    from .._problems.problem import Array, Problem
else:
    np = optional("numpy", extra="lab")

MOST = 2**18
"""The largest number of different points at one step."""

SAME = 1e-12
"""Points that differ by less than this share of the largest coordinate are merged."""


def expect(
    problem: Problem,
    *,
    method: str,
    lr: Any,
    rho: Any = None,
    steps: int,
    x0: Any,
    clip: float | None = None,
    minimizer: Any = None,
) -> dict[str, float]:
    """Exact expectations, over all samples, of the quantities that the statements bound, for runs from one start.

    Every sample, or pair of samples, is taken at every step, with its probability; paths that meet are merged. The number of
    points grows like samples^T (m-sam) or samples^(2 T) (n-sam) unless they meet, so T has to be small; a deterministic
    method, or one sample, has one path, and T may be large.

    Args:
        problem: with a finite number of samples, of which a stochastic gradient draws one.
        method, lr, rho, steps, clip: as for `simulate`.
        x0: one start: a number, or shape (dim,).
        minimizer: x*, for "squared-distance"; not needed for piecewise linear derivatives, where it is the nearest one, nor
            where it is 0.

    Returns:
        "gap": E f(x_T) - f*; "squared-gradient": mean over t < T of E ||grad f(x_t)||^2; "least-squared-gradient": min over
        t < T of it; "mean-gap" and "perturbed-gap": mean over t < T of E f(x_t) - f* and of E f(y_t) - f*; and
        "squared-distance": E ||x_T - x*||^2.

    Raises:
        TypeError: for a problem whose samples cannot be listed.
        ValueError: for arguments that `simulate` refuses, several starts, or more than 262,144 different points.

    >>> from sharpmin import theory
    >>> coin = theory.problems()["e3"](p=0.5, rho=1.0, c=1.0)  # quadratics around 1 and -1
    >>> expect(coin, method="m-sam", lr=1.0, rho=0.0, steps=1, x0=0.0)["gap"]  # x_1 is 1 or -1
    0.5
    """
    run = prepare(problem, method, lr, rho, steps, x0, 0, clip, (), True)
    if len(run.x0) != 1:
        raise ValueError(f"expect: x0={x0!r} has {len(run.x0)} starts; give one")
    exact = run.method.oracle is Oracle.EXACT
    weights = [1.0] if exact else _weights(problem)
    x, w = run.x0, np.ones(1)
    squares, below, gaps, least = 0.0, 0.0, 0.0, np.inf
    with np.errstate(over="ignore", invalid="ignore"):
        for t in range(steps):
            mean = float(w @ problem.norm(problem.gradient(x)) ** 2)
            squares, least, below = squares + mean, min(least, mean), below + float(w @ problem.gap(x))
            points, masses = [], []
            for y, after, p in _branches(run, t, x, weights):
                points.append(after)
                masses.append(p * w)
                if y is not None:
                    gaps += float(y[1] * (w @ problem.gap(y[0])))
            x, w = _merged(np.concatenate(points), np.concatenate(masses))
            if len(x) > MOST:
                raise ValueError(f"expect: {len(x)} different points after {t + 1} of {steps} steps; give fewer steps, or "
                                 "simulate() with seeds")  # fmt: skip
        out = {"gap": float(w @ problem.gap(x)), "squared-gradient": squares / steps, "least-squared-gradient": least}
        out |= {"mean-gap": below / steps, "perturbed-gap": gaps / steps}
        with suppress(ValueError):  # no minimizer is known
            out["squared-distance"] = float(w @ distance(problem, x, minimizer) ** 2)
    return out


def _weights(problem: Problem) -> list[float]:
    """The probabilities of the samples."""
    if isinstance(problem, HingeProblem):
        return list(problem.probabilities)
    count = 0
    if isinstance(problem, Noisy):
        count = len(problem.offsets)
    if isinstance(problem, OwnProblem):
        count = problem.samples
    if not count or problem.batch != 1:
        raise TypeError(
            f"expect: the samples of {problem!r} cannot be listed; use a hinge problem or own(samples=), or simulate"
        )
    return [1 / count] * count


def _branches(run: CheckedRun, t: int, x: Array, weights: list[float]) -> Iterator[tuple[Any, Array, float]]:
    """For every branch of a step: (y and its probability, or None if y was yielded before; the next x; its probability)."""
    problem, how = run.problem, run.method
    lr = run.lr(t) if callable(run.lr) else run.lr[0]
    for i, p in enumerate(weights):
        g = _gradient(run, x, i)
        norms = problem.norm(g)
        radius = np.zeros(len(x))
        if how.ascent is not None:
            rho = run.rho(StepInfo(t, lr, norms)) if isinstance(run.rho, RhoSchedule) else run.rho
            radius = np.broadcast_to(np.asarray(rho, dtype=np.float64), norms.shape)
        scale = radius if how.ascent == "raw" else radius / np.where(norms > 0, norms, 1.0)
        y = x + _column(problem, scale) * g
        independent = how.oracle is Oracle.N_SAM
        for j, q in enumerate(weights) if independent else [(i, 1.0)]:
            d = np.where(_column(problem, radius == 0), g, _gradient(run, y, j))
            if run.clip is not None:
                size = problem.norm(d - g)
                factor = np.where(size > 0, np.minimum(1.0, run.clip * norms / np.where(size > 0, size, 1.0)), 1.0)
                d = g + _column(problem, factor) * (d - g)
            yield ((y, p) if not independent or j == 0 else None), x - lr * d, p * q


def _gradient(run: CheckedRun, x: Array, sample: int) -> Array:
    if run.method.oracle is Oracle.EXACT:
        return run.problem.gradient(x)
    return run.problem.sample_gradient(x, np.full((len(x), 1), sample))


def _column(problem: Problem, v: Array) -> Array:
    return v if problem.dim == 1 else v[:, None]


def _merged(x: Array, w: Array) -> tuple[Array, Array]:
    """Points that are equal up to rounding, merged, with the sum of their probabilities."""
    if len(x) == 1 or not np.isfinite(x).all():
        return x, w
    unit = SAME * (float(np.abs(x).max()) or 1.0)
    _, first, where = np.unique(np.rint(x / unit), axis=0, return_index=True, return_inverse=True)
    return x[first], np.asarray(np.bincount(where.ravel(), weights=w), dtype=np.float64)
