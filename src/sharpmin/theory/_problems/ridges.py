"""Sums of ridges along several directions: functions whose Hessian has varying eigenvectors, with exact constants."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sharpmin.core.extras import optional

from .problem import Problem

if TYPE_CHECKING:
    import numpy as np
    from numpy.random import Generator

    from .problem import Array
else:
    np = optional("numpy", extra="lab")


@dataclass(frozen=True, repr=False, eq=False)
class Ridges(Problem):
    """f(x) = mu ||x||^2/2 + sum_i phi(<a_i, x>), minimal at 0, where f* = 0.

    phi(t) = log cosh t, or 1 - exp(-t^2/2) if `bounded`: phi'' <= phi''(0) = 1, and the sum of phi''(<a_i, x>) a_i a_i^T turns
    with x. At 0 its largest eigenvalue is that of sum a_i a_i^T, so beta is exact; mu is the infimum far away.

    Attributes:
        rows: the a_i, shape (ridges, dim).
        low: mu; 0 if `bounded`.
        bounded: with the bounded ridges f is nonconvex, with curvatures down to -2 exp(-3/2) beta.

    >>> f = Ridges(np.array([[1.0, 0.0], [0.6, 0.8]]), low=0.1)
    >>> round(f.beta, 12), f.mu
    (1.7, 0.1)
    """

    rows: Array
    low: float = 0.0
    bounded: bool = False

    @property
    def name(self) -> str:  # type: ignore[override]
        """The name in tables: bounded ridges, or not."""
        return "bounded ridges" if self.bounded else "ridges"

    @property
    def dim(self) -> int:  # type: ignore[override]
        """The length of the vectors a_i."""
        return int(self.rows.shape[1])

    @property
    def beta(self) -> float:
        """The largest eigenvalue at 0."""
        return self.low + float(np.linalg.eigvalsh(self.rows.T @ self.rows)[-1])

    @property
    def mu(self) -> float:
        """The curvature far away."""
        return self.low

    @property
    def resolution(self) -> float:
        """The rounding error of the logarithms, which cancel at 0; 0 for bounded ridges."""
        return 0.0 if self.bounded else 1e-15 * len(self.rows)

    def value(self, x: Array) -> Array:
        """f, shape (lanes,)."""
        t = np.abs(x @ self.rows.T)
        each = -np.expm1(-t * t / 2) if self.bounded else t + np.log1p(np.exp(-2 * t)) - math.log(2)
        return np.asarray(each.sum(axis=1) + self.low / 2 * np.einsum("ij,ij->i", x, x))

    def gradient(self, x: Array) -> Array:
        """Mu x + sum_i phi'(<a_i, x>) a_i."""
        t = x @ self.rows.T
        slope = t * np.exp(-t * t / 2) if self.bounded else np.tanh(t)
        return np.asarray(slope @ self.rows + self.low * x)


def random_ridges(rng: Generator, low: float, high: float) -> Ridges:
    """Three or four ridges in two or three dimensions with beta = high and mu = low; bounded ones if low is negative."""
    dim = int(rng.integers(2, 4))
    rows = rng.normal(size=(dim + 1, dim)) * np.exp(rng.uniform(-0.5, 0.5, (dim + 1, 1)))
    bounded = low < 0
    top = float(np.linalg.eigvalsh(rows.T @ rows)[-1])
    return Ridges(rows * math.sqrt((high - max(low, 0.0)) / top), max(low, 0.0), bounded)
