"""Many functions at once: every lane has its own function, constants and horizon; all sample paths are enumerated.

The steps are those of `simulate`, which runs one function on many lanes; a test compares the two on random cases.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

from sharpmin.core.extras import optional

from .._simulation.oracle import Oracle
from .._simulation.run import METHODS, StepRule

if TYPE_CHECKING:
    import numpy as np

    from .._problems.problem import Array
    from .._simulation import jit
    from . import kernel
else:
    np = optional("numpy", extra="lab")
    jit = optional("sharpmin.theory._simulation.jit", extra="lab")  # imports numba at the first attack
    kernel = optional("sharpmin.theory._refute.kernel", extra="lab")


@dataclass
class Functions(ABC):
    """The interface of a family: one function per lane. Points have shape (lanes, paths, dim).

    Attributes:
        beta, mu: the constants given to the bound; the function is at most beta-smooth and has at least mu.
        sigma, beta_component: noise and smoothness of the samples; 0 and beta if there is one sample.
        weights: the probabilities of the samples, shape (lanes, samples).
        minimizer: shape (lanes, dim).
        resolution: the rounding error of `gap`.
    """

    beta: Array
    mu: Array
    sigma: Array
    beta_component: Array
    weights: Array
    minimizer: Array
    resolution: Array

    def take(self, lanes: Any) -> Self:
        """The functions of these lanes."""
        return type(self)(**{field.name: getattr(self, field.name)[lanes] for field in fields(self)})

    @abstractmethod
    def gradient(self, x: Array, sample: int | None = None) -> Array:
        """The gradient of f, or of one sample; the shape of x."""

    @abstractmethod
    def gap(self, x: Array) -> Array:
        """f(x) - f*, shape (lanes, paths)."""

    @abstractmethod
    def rows(self) -> tuple[int, Array]:
        """The kind of the functions, as the kernel numbers it, and their parameters, shape (lanes, numbers)."""


@dataclass(frozen=True)
class Runs:
    """The method and the constants of all lanes; sorted so that `steps` descends.

    Attributes:
        method: a method of `simulate`.
        lr: shape (horizon, lanes).
        radii: the radius before the cap, shape (horizon, lanes).
        caps: the radius is at most caps times ||g||; inf for no cap; shape (lanes,).
        clip: theta per lane, or None.
        steps: T per lane.
        x0: shape (lanes, dim).
    """

    method: str
    lr: Array
    radii: Array
    caps: Array
    clip: Array | None
    steps: Any
    x0: Array


def measure(f: Functions, runs: Runs, quantity: str) -> Array:
    """One of `QUANTITIES` for every lane, shape (lanes,); by the compiled loops for deterministic methods if numba is there."""
    how = METHODS[runs.method]
    if not jit.AVAILABLE or how.oracle is not Oracle.EXACT:
        return enumerate_paths(f, runs, quantity)
    kind, rows = f.rows()
    clip = np.full(len(runs.x0), -1.0) if runs.clip is None else runs.clip
    radii = 0.0 * runs.radii if how.ascent is None else runs.radii
    with np.errstate(all="ignore"):
        return np.asarray(
            kernel.walk(kind, rows, runs.x0, f.minimizer, runs.lr, radii, runs.caps, how.ascent == "raw", clip, runs.steps,
                        kernel.QUANTITIES.index(quantity))
        )  # fmt: skip


def enumerate_paths(f: Functions, runs: Runs, quantity: str) -> Array:
    """One of `QUANTITIES`, exactly: expectations are sums over all sample paths. Shape (lanes,)."""
    how, lanes = METHODS[runs.method], len(runs.x0)
    at_end, over_x, over_y = quantity in ("gap", "squared-distance"), quantity == "mean-gap", quantity == "perturbed-gap"
    squares, least = quantity.endswith("gradient"), quantity.startswith("least")
    out = np.full(lanes, np.inf) if least else np.zeros(lanes)
    x, w, active = runs.x0[:, None, :], np.ones((lanes, 1)), lanes
    with np.errstate(all="ignore"):
        for t in range(int(runs.steps[0]) + 1):
            going = int(np.searchsorted(-runs.steps, -t, side="left"))  # lanes with steps > t
            if going < active:
                ended = slice(going, active)
                if at_end:
                    out[ended] = (w[ended] * _at_end(f.take(ended), x[ended], quantity)).sum(axis=1)
                f, x, w, active = f.take(slice(0, going)), x[:going], w[:going], going
            if not going:
                break
            g = f.gradient(x) if how.oracle is Oracle.EXACT or squares else x
            if over_x:
                out[:going] += (w * f.gap(x)).sum(axis=1) / runs.steps[:going]
            if squares:
                mean = (w * _squares(g)).sum(axis=1)
                out[:going] = np.fmin(out[:going], mean) if least else out[:going] + mean / runs.steps[:going]
            x, w, seen = _step(f, how, runs, t, x, w, g, over_y)
            if over_y:
                out[:going] += seen / runs.steps[:going]
    return out


def _at_end(f: Functions, x: Array, quantity: str) -> Array:
    """The quantity at the end of every path."""
    if quantity == "gap":
        return f.gap(x)
    away = x - f.minimizer[:, None]
    return _squares(away)


def _step(
    f: Functions, how: StepRule, runs: Runs, t: int, x: Array, w: Array, full: Any, over_y: bool
) -> tuple[Array, Array, Array]:  # fmt: skip
    """The next points and their weights, and E f(y) - f* if asked for; `full` is the gradient of f at x, for exact steps."""
    lr = runs.lr[t, : len(x), None, None]
    exact, independent = how.oracle is Oracle.EXACT, how.oracle is Oracle.N_SAM
    samples: list[int | None] = [None] if exact else list(range(f.weights.shape[1]))
    points, weights, seen = [], [], np.zeros(len(x))
    for first in samples:
        g = full if exact else f.gradient(x, first)
        y, radius = _climb(how, runs, t, g, x)
        p = w if first is None else w * f.weights[:, first, None]
        if over_y:
            seen += (p * f.gap(y)).sum(axis=1)
        for second in samples if independent else [first]:
            d = np.where(radius == 0, g, f.gradient(y, second))
            if runs.clip is not None:
                d = _clipped(g, d, runs.clip[: len(x), None, None])
            points.append(x - lr * d)
            weights.append(p * f.weights[:, second, None] if independent and second is not None else p)
    if len(points) == 1:
        return points[0], weights[0], seen
    return np.concatenate(points, axis=1), np.concatenate(weights, axis=1), seen


def _climb(how: StepRule, runs: Runs, t: int, g: Array, x: Array) -> tuple[Array, Array]:
    """y, and the radius of shape (lanes, paths, 1)."""
    if how.ascent is None:
        return x, np.zeros((*g.shape[:2], 1))
    norms = np.sqrt(_squares(g))
    cap = runs.caps[: len(x), None]
    radius = np.minimum(runs.radii[t, : len(x), None], np.where(np.isinf(cap), np.inf, cap * norms))[..., None]
    direction = g if how.ascent == "raw" else g / np.where(norms > 0, norms, 1.0)[..., None]
    return x + radius * direction, radius


def _squares(g: Array) -> Array:
    return np.asarray(np.einsum("...i,...i->...", g, g))


def _clipped(g: Array, big: Array, theta: Array) -> Array:
    difference = big - g
    size = np.sqrt(_squares(difference))[..., None]
    factor = np.minimum(1.0, theta * np.sqrt(_squares(g))[..., None] / np.where(size > 0, size, 1.0))
    return np.asarray(g + np.where(size > 0, factor, 1.0) * difference)
