"""Piecewise linear derivatives in one dimension, one function per lane, with samples that share the knots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sharpmin.core.extras import optional

from .._problems.hinge import ROUNDING
from .conjecture import Conjecture
from .genes import Constants, Reader
from .population import Functions

if TYPE_CHECKING:
    import numpy as np

    from .._problems.problem import Array
    from . import kernel
else:
    np = optional("numpy", extra="lab")
    kernel = optional("sharpmin.theory._refute.kernel", extra="lab")

KNOTS = 5
GENES = 4 + (KNOTS - 1) + (KNOTS + 1)
NOISE_GENES = 3 + KNOTS
_STEEP = 0.02
"""The least slope at both ends of a nonconvex f', so that f is bounded below."""


@dataclass
class Hinges(Functions):
    """l_s'(x) = a_s + b_s x + sum_k c_sk max(0, x - t_k); the sample with index -1 is the mean.

    Attributes:
        a, b: shape (lanes, samples + 1).
        t: shape (lanes, knots).
        c: shape (lanes, samples + 1, knots).
        least: the minimum of the antiderivative of f'.
        steepest: the largest slope of any sample.
    """

    a: Array
    b: Array
    t: Array
    c: Array
    least: Array
    steepest: Array

    def gradient(self, x: Array, sample: int | None = None) -> Array:
        """The derivative of a sample, or of the mean; values within rounding of 0 become 0, as in `HingeProblem`."""
        s = -1 if sample is None else sample
        z = x[..., 0]
        total = self.a[:, s, None] + self.b[:, s, None] * z
        size = np.abs(self.a[:, s, None]) + np.abs(self.b[:, s, None] * z)
        for k in range(self.t.shape[1]):
            term = self.c[:, s, k, None] * np.maximum(z - self.t[:, k, None], 0.0)
            total = total + term
            size = size + np.abs(term)
        return np.asarray(np.where(np.abs(total) < ROUNDING * size, 0.0, total)[..., None])

    def gap(self, x: Array) -> Array:
        """f(x) - f*."""
        return _antiderivative(self.a[:, -1], self.b[:, -1], self.t, self.c[:, -1], x[..., 0]) - self.least[:, None]

    def rows(self) -> tuple[int, Array]:
        """a, b, least, t_1, c_1, t_2, ... of the mean."""
        pairs = np.stack([self.t, self.c[:, -1]], axis=2).reshape(len(self.t), -1)
        return kernel.HINGES, np.column_stack([self.a[:, -1], self.b[:, -1], self.least, pairs])

    def source(self, i: int) -> str:
        """Python code that builds the function of lane i."""
        rows = []
        for s in range(self.weights.shape[1]):
            pairs = zip(self.t[i].tolist(), self.c[i, s].tolist(), strict=True)
            knots = ", ".join(f"({t!r}, {c!r})" for t, c in pairs if c != 0.0)
            rows.append(f"    ({float(self.a[i, s])!r}, {float(self.b[i, s])!r}, [{knots}]),")
        weights = f", probabilities={self.weights[i].tolist()}" if len(rows) > 1 else ""
        return "\n".join(["f = theory.own(hinges=[", *rows, f"]{weights})"])


def _antiderivative(a: Array, b: Array, t: Array, c: Array, x: Array) -> Array:
    """The antiderivative at points of shape (lanes, n)."""
    total = a[:, None] * x + b[:, None] * x * x / 2
    for k in range(t.shape[1]):
        total = total + c[:, k, None] * np.maximum(x - t[:, k, None], 0.0) ** 2 / 2
    return np.asarray(total)


def decode(conjecture: Conjecture, settings: Constants, reader: Reader, *, noisy: bool) -> tuple[Hinges, Array]:
    """Functions within the assumptions, and starts of shape (lanes, 1); lengths are from lr beta rho / 10 to 10 rho."""
    beta, n = settings.beta, len(settings.beta)
    small, large = settings.lr * beta * settings.rho / 10, 10 * settings.rho
    length, start = reader.log(small, large), reader.log(small, large)
    x0 = start * reader.signed() / 3
    gaps = np.exp(4.0 * reader.many(KNOTS - 1) - 3.0)
    offsets = np.concatenate([np.zeros((n, 1)), np.cumsum(gaps, axis=1)], axis=1)
    shift = reader.many(1) * (1.2 * offsets[:, -1:]) - 0.1 * offsets[:, -1:]
    t = length[:, None] * (offsets - shift) / offsets[:, -1:]
    slopes = _slopes(conjecture.setting, beta, beta / settings.kappa, reader.many(KNOTS + 1))
    weights = np.ones((n, 1))
    a, b, c = np.zeros((n, 1)), slopes[:, :1], np.diff(slopes, axis=1)[:, None, :]
    a = -(c[:, 0] * np.maximum(-t, 0.0)).sum(axis=1, keepdims=True)  # f'(0) = 0
    if noisy:
        p = reader.linear(0.05, 0.5)
        weights = np.stack([p, 1 - p], axis=1)
        size = reader.log(1e-3, 10.0) * beta * settings.rho
        heights = size[:, None] * reader.signed_many(KNOTS) / 3
        flat = reader.many(1) < 0.3  # noise of slope 0: the samples differ from f by linear terms
        heights = np.where(flat, heights[:, :1], heights)
        inner = np.diff(heights, axis=1) / np.diff(t, axis=1)
        bumps = np.diff(np.concatenate([0 * p[:, None], inner, 0 * p[:, None]], axis=1), axis=1)
        other = -(p / (1 - p))
        a = np.concatenate([a + heights[:, :1], a + other[:, None] * heights[:, :1], a], axis=1)
        b = np.repeat(b, 3, axis=1)
        c = np.stack([c[:, 0] + bumps, c[:, 0] + other[:, None] * bumps, c[:, 0]], axis=1)
    else:
        a, b, c = np.repeat(a, 2, axis=1), np.repeat(b, 2, axis=1), np.repeat(c, 2, axis=1)
    mu = beta / settings.kappa if conjecture.setting == "strongly-convex" else 0.0 * beta
    return known(beta, mu, weights, a, b, t, c, pl=conjecture.setting == "pl"), x0[:, None]


def _slopes(setting: str, beta: Array, mu: Array, u: Array) -> Array:
    """Slopes between the least and the largest of the class; a fifth of [0, 1] at either end gives exactly these."""
    low = {"strongly-convex": mu, "convex": 0.0 * beta}.get(setting, -beta)[:, None]
    high = beta[:, None]
    slopes = np.where(u < 0.2, low, np.where(u > 0.8, high, low + (high - low) * (u - 0.2) / 0.6))
    if setting != "strongly-convex":
        slopes[:, [0, -1]] = np.maximum(np.abs(slopes[:, [0, -1]]), _STEEP * beta[:, None])
    return np.asarray(slopes)


def known(beta: Array, mu: Array, weights: Array, a: Array, b: Array, t: Array, c: Array, *, pl: bool = False) -> Hinges:
    """`Hinges` with their exact constants: f*, a minimizer, sigma, smoothness of the samples, the PL constant."""
    slopes = np.cumsum(np.concatenate([b[:, :, None], c], axis=2), axis=2)
    mean, knots = slopes[:, -1], t.shape[1]
    at = a[:, :, None] + b[:, :, None] * t[:, None]
    for k in range(knots):
        at = at + c[:, :, k, None] * np.maximum(t - t[:, k, None], 0.0)[:, None]
    anchors = np.concatenate([t[:, :1], t], axis=1)
    values = np.concatenate([at[:, -1, :1], at[:, -1]], axis=1)
    edges = np.full((len(t), 1), np.inf)
    low, high = np.concatenate([-edges, t], axis=1), np.concatenate([t, edges], axis=1)
    with np.errstate(all="ignore"):
        roots = anchors - values / mean
    inside = (mean != 0) & (low <= roots) & (roots <= high)
    points = np.concatenate([t, np.where(inside, roots, t[:, :1])], axis=1)
    heights = _antiderivative(a[:, -1], b[:, -1], t, c[:, -1], points)
    best = heights.argmin(axis=1)[:, None]
    least, minimizer = np.take_along_axis(heights, best, 1)[:, 0], np.take_along_axis(points, best, 1)
    sizes = np.abs(a[:, -1, None] * points) + np.abs(b[:, -1, None]) * points**2 / 2
    for k in range(knots):
        sizes = sizes + np.abs(c[:, -1, k, None]) * np.maximum(points - t[:, k, None], 0.0) ** 2 / 2
    steep = np.abs(slopes[:, :-1]).max(axis=2)
    sigma = np.sqrt((weights[:, :, None] * (at[:, :-1] - at[:, -1:]) ** 2).sum(axis=1).max(axis=1))
    f = Hinges(
        beta, mu, np.where(weights.shape[1] > 1, sigma, 0.0), np.sqrt((weights * steep**2).sum(axis=1)), weights, minimizer,
        1e-14 * sizes.max(axis=1), a, b, t, c, least, steep.max(axis=1),
    )  # fmt: skip
    if pl:
        f.mu = _pl(f, mean, points, heights - least[:, None], low, high)
    return f


def _pl(f: Hinges, mean: Array, points: Array, gaps: Array, low: Array, high: Array) -> Array:
    """The infimum of f'^2 / (2 (f - f*)), attained at a knot or a zero of f', or the slope at a minimizer or at an end."""
    slopes = f.gradient(points[..., None])[..., 0]
    flat = 1e-12 * gaps.max(axis=1, keepdims=True)
    with np.errstate(all="ignore"):
        ratios = np.where(gaps > flat, slopes**2 / (2 * gaps), np.inf)
    x = f.minimizer
    touches = (low <= x) & (x <= high) & (mean > 0)
    ends = np.where(touches, mean, np.inf)
    ends[:, [0, -1]] = np.minimum(ends[:, [0, -1]], np.where(mean[:, [0, -1]] > 0, mean[:, [0, -1]], 0.0))
    return np.asarray(np.minimum(ratios.min(axis=1), ends.min(axis=1)))
