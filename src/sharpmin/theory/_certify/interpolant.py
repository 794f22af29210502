"""A strongly convex, smooth function through given points, values and gradients, as a `Problem` that `simulate` runs."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import combinations, permutations
from typing import TYPE_CHECKING

from sharpmin.core.extras import optional

from .._problems.problem import Problem

if TYPE_CHECKING:
    import numpy as np

    from .._problems.problem import Array
else:
    np = optional("numpy", extra="lab")


@dataclass(frozen=True, repr=False, eq=False)
class Interpolant(Problem):
    """The largest mu-strongly convex, beta-smooth function through m points.

    ```
    f(x) = mu/2 ||x||^2 + min over l >= 0, sum l = 1 of  (beta - mu)/2 ||x - sum l_i v_i||^2 + sum l_i c_i,
    v_i = x_i - h_i / (beta - mu),    c_i = f_i - mu/2 ||x_i||^2 - ||h_i||^2 / (2 (beta - mu)),    h_i = g_i - mu x_i
    ```
    It has the given values and gradients if any function of the class has them (`violation` is then at most 0). The first
    point is x* = 0 with f* = 0. The minimum is computed exactly, over the faces of the simplex: for a dozen points at most.

    Attributes:
        points: x_i, shape (m, dim), dim >= 2.
        gradients: g_i, shape (m, dim).
        values: f_i, shape (m,).
        low: mu.
        high: beta, above mu.

    >>> f = Interpolant(np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([0.0, 0.5]), 0.5, 2.0)
    >>> f.value(np.array([[1.0, 0.0]])), f.gradient(np.array([[1.0, 0.0], [3.0, 0.0]]))
    (array([0.5]), array([[1., 0.],
           [5., 0.]]))
    """

    points: Array
    gradients: Array
    values: Array
    low: float
    high: float
    name: str = "interpolant"

    @property
    def dim(self) -> int:  # type: ignore[override]
        """The dimension of the points."""
        return int(self.points.shape[1])

    @property
    def beta(self) -> float:
        """The smoothness that was given."""
        return self.high

    @property
    def mu(self) -> float:
        """The strong convexity that was given."""
        return self.low

    @property
    def resolution(self) -> float:
        """The rounding error of the given values."""
        return 1e-14 * float(np.abs(self.values).max())

    def value(self, x: Array) -> Array:
        """f, shape (lanes,)."""
        _, lowest = self._nearest(x)
        return np.asarray(self.low / 2 * np.einsum("ij,ij->i", x, x) + lowest)

    def gradient(self, x: Array) -> Array:
        """mu x + (beta - mu)(x - sum l_i v_i)."""
        nearest, _ = self._nearest(x)
        return np.asarray(self.low * x + (self.high - self.low) * (x - nearest))

    def violation(self, mu: Fraction, beta: Fraction) -> Fraction:
        """The largest violation of an interpolation inequality, computed exactly for these floats; at most 0 if all hold."""
        points, gradients = ([[Fraction(v) for v in row] for row in array.tolist()] for array in (self.points, self.gradients))
        values = [Fraction(v) for v in self.values.tolist()]
        worst = None
        for i, j in permutations(range(len(values)), 2):
            dx = [a - b for a, b in zip(points[i], points[j], strict=True)]
            dg = [a - b for a, b in zip(gradients[i], gradients[j], strict=True)]
            square_x, square_g = sum(a * a for a in dx), sum(a * a for a in dg)
            mixed = sum(a * b for a, b in zip(dg, dx, strict=True))
            linear = sum(a * b for a, b in zip(gradients[j], dx, strict=True))
            least = (square_g / beta + mu * square_x - 2 * mu / beta * mixed) / (2 * (1 - mu / beta))
            short = values[j] + linear + least - values[i]
            worst = short if worst is None else max(worst, short)
        return Fraction(0) if worst is None else Fraction(worst)

    @cached_property
    def _vertices(self) -> tuple[Array, Array]:
        """The points v_i and the numbers c_i."""
        span = self.high - self.low
        tilted = self.gradients - self.low * self.points
        heights = self.values - self.low / 2 * (self.points**2).sum(axis=1) - (tilted**2).sum(axis=1) / (2 * span)
        return self.points - tilted / span, heights

    @cached_property
    def _faces(self) -> tuple[Array, Array]:
        """For every face, the best weights on its affine hull, affine in x: slopes (faces, m, dim) and offsets (faces, m)."""
        v, c = self._vertices
        span, (m, dim) = self.high - self.low, v.shape
        slopes, offsets = [], []
        for size in range(1, min(m, dim + 1) + 1):
            for first, *others in combinations(range(m), size):
                edges = v[others] - v[first]
                lengths = np.sqrt((edges**2).sum(axis=1))
                if not lengths.all():
                    continue
                edges = edges / lengths[:, None]
                if size > 1 and np.linalg.svd(edges, compute_uv=False)[-1] < 1e-7:
                    continue  # a face of affinely independent points has the same minimum
                inverse = np.linalg.inv(span * edges @ edges.T) / lengths[:, None]
                slope, offset = np.zeros((m, dim)), np.zeros(m)
                slope[others] = span * inverse @ edges
                offset[others] = -slope[others] @ v[first] - inverse @ ((c[others] - c[first]) / lengths)
                slope[first], offset[first] = -slope.sum(axis=0), 1 - offset.sum()
                slopes.append(slope)
                offsets.append(offset)
        return np.stack(slopes), np.stack(offsets)

    def _nearest(self, x: Array) -> tuple[Array, Array]:
        """The minimizing sum l_i v_i, and the minimum."""
        v, c = self._vertices
        slopes, offsets = self._faces
        weights = np.einsum("fmd,ld->lfm", slopes, x) + offsets
        inside = (weights >= -1e-10).all(axis=2)
        weights = np.maximum(weights, 0)
        weights /= weights.sum(axis=2, keepdims=True)
        nearest = weights @ v
        heights = (self.high - self.low) / 2 * ((x[:, None] - nearest) ** 2).sum(axis=2) + weights @ c
        best = np.where(inside, heights, np.inf).argmin(axis=1)
        lanes = np.arange(len(x))
        return nearest[lanes, best], heights[lanes, best]
