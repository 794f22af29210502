"""Smooth problems that are not sums of hinges: a cosine in 1-D, and a curved valley in 2-D."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sharpmin.core.extras import optional

from .problem import Problem

if TYPE_CHECKING:
    import numpy as np

    from .problem import Array
else:
    np = optional("numpy", extra="lab")


@dataclass(frozen=True, repr=False)
class CosineWave(Problem):
    """f(x) = (beta/w^2)(1 - cos(w x)): infinitely smooth, f'' in [-beta, beta], f* = 0 at every multiple of 2 pi/w.

    >>> CosineWave("wave", curvature=2.0, frequency=0.5).gradient(np.array([0.0, math.pi]))
    array([0., 4.])
    """

    name: str
    curvature: float
    frequency: float
    dim: int = 1

    @property
    def beta(self) -> float:
        """The curvature at a minimum."""
        return self.curvature

    @property
    def resolution(self) -> float:
        """The rounding error of a squared sine whose argument is rounded."""
        return 1e-15 * self.curvature / self.frequency**2

    def value(self, x: Array) -> Array:
        """f, shape (lanes,)."""
        return np.asarray(2 * self.curvature / self.frequency**2 * np.sin(self.frequency * x / 2) ** 2)

    def gradient(self, x: Array) -> Array:
        """(beta/w) sin(w x)."""
        return np.asarray(self.curvature / self.frequency * np.sin(self.frequency * x))


@dataclass(frozen=True, repr=False)
class CosineValley(Problem):
    """f(u, v) = mu (v - 3 L cos(u/L))^2 / 2: PL(mu), minimal along a wave, f* = 0.

    Its second derivatives grow with v - 3 L cos(u/L), so beta is inf on the plane.

    >>> CosineValley("valley", strength=2.0, length=1.0).value(np.array([[0.0, 4.0]]))
    array([1.])
    """

    name: str
    strength: float
    length: float
    dim: int = 2

    @property
    def beta(self) -> float:
        """The supremum over the plane."""
        return math.inf

    @property
    def pl(self) -> float:
        """||grad f||^2 = 2 mu f (1 + 9 sin(u/L)^2)."""
        return self.strength

    def value(self, x: Array) -> Array:
        """f, shape (lanes,)."""
        return np.asarray(self.strength / 2 * self._height(x) ** 2)

    def gradient(self, x: Array) -> Array:
        """mu h (3 sin(u/L), 1), h = v - 3 L cos(u/L)."""
        slope = np.stack([3 * np.sin(x[:, 0] / self.length), np.ones(len(x))], axis=1)
        return np.asarray(self.strength * self._height(x)[:, None] * slope)

    def _height(self, x: Array) -> Array:
        return np.asarray(x[:, 1] - 3 * self.length * np.cos(x[:, 0] / self.length))
