"""Problems in several dimensions with closed forms: diagonal quadratics, log-cosh, (xy - 1)^2, and additive noise on any."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sharpmin.core.extras import optional

from .problem import Problem

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .problem import Array
else:
    np = optional("numpy", extra="lab")


@dataclass(frozen=True, repr=False)
class DiagonalQuadratic(Problem):
    """f(x) = sum_i lam_i x_i^2 / 2, f* = 0 if every lam_i >= 0.

    >>> DiagonalQuadratic((1.0, 4.0)).gradient(np.array([[3.0, 1.0]]))
    array([[3., 4.]])
    """

    curvatures: tuple[float, ...]
    name: str = "quadratic"

    @property
    def dim(self) -> int:  # type: ignore[override]
        """The number of curvatures."""
        return len(self.curvatures)

    @property
    def beta(self) -> float:
        """The largest curvature."""
        return max(self.curvatures)

    @property
    def mu(self) -> float:
        """The least curvature."""
        return min(self.curvatures)

    def value(self, x: Array) -> Array:
        """f, shape (lanes,)."""
        return np.asarray((x * x) @ np.asarray(self.curvatures) / 2)

    def gradient(self, x: Array) -> Array:
        """The products lam_i x_i."""
        return np.asarray(x * np.asarray(self.curvatures))


@dataclass(frozen=True, repr=False)
class LogCosh(Problem):
    """f(x) = sum_i (beta - mu) log cosh(x_i) + mu x_i^2 / 2, with f'' in (mu, beta], f* = 0 at 0.

    >>> LogCosh("log-cosh", dim=2, high=1.0, low=0.1).value(np.zeros((1, 2)))
    array([0.])
    """

    name: str
    dim: int
    high: float
    low: float = 0.0

    @property
    def beta(self) -> float:
        """The curvature at 0."""
        return self.high

    @property
    def mu(self) -> float:
        """The curvature at infinity."""
        return self.low

    @property
    def resolution(self) -> float:
        """The rounding error of the logarithms, which cancel at 0."""
        return 1e-15 * self.dim * self.high

    def value(self, x: Array) -> Array:
        """f, shape (lanes,)."""
        size = np.abs(x)
        each = (self.high - self.low) * (size + np.log1p(np.exp(-2 * size)) - math.log(2)) + self.low * x * x / 2
        return each if self.dim == 1 else np.asarray(each.sum(axis=-1))

    def gradient(self, x: Array) -> Array:
        """(beta - mu) tanh(x) + mu x."""
        return np.asarray((self.high - self.low) * np.tanh(x) + self.low * x)


@dataclass(frozen=True, repr=False)
class ProductSquare(Problem):
    """f(x, y) = (xy - 1)^2: nonconvex, minimal on a hyperbola along which sharpness 2 (x^2 + y^2) varies.

    The gradient is not Lipschitz on the plane, so beta is inf and no statement applies globally.

    >>> ProductSquare().gradient(np.array([[2.0, 1.0]]))
    array([[2., 4.]])
    """

    name: str = "product"
    dim: int = 2

    @property
    def beta(self) -> float:
        """inf: the supremum over the plane."""
        return math.inf

    def value(self, x: Array) -> Array:
        """f, shape (lanes,)."""
        return np.asarray((x[:, 0] * x[:, 1] - 1.0) ** 2)

    def gradient(self, x: Array) -> Array:
        """2 (xy - 1) (y, x)."""
        return np.asarray(2.0 * (x[:, :1] * x[:, 1:] - 1.0) * x[:, ::-1])


@dataclass(frozen=True, repr=False)
class Noisy(Problem):
    """`inner` with additive gradient noise: grad l(x; i) = grad f(x) + offset_i, each i equally likely, offsets of mean 0."""

    inner: Problem
    offsets: tuple[tuple[float, ...], ...]

    @property
    def name(self) -> str:  # type: ignore[override]
        """The name of the inner problem."""
        return f"noisy {self.inner.name}"

    @property
    def dim(self) -> int:  # type: ignore[override]
        """The dimension of the inner problem."""
        return self.inner.dim

    @property
    def beta(self) -> float:
        """The smoothness of the inner problem: the noise does not depend on x."""
        return self.inner.beta

    @property
    def mu(self) -> float:
        """The strong convexity of the inner problem."""
        return self.inner.mu

    @property
    def f_star(self) -> float:
        """The infimum of the inner problem."""
        return self.inner.f_star

    @property
    def resolution(self) -> float:
        """The rounding error of the inner problem's `gap`."""
        return self.inner.resolution

    @property
    def sigma(self) -> float:
        """Root mean square of the offsets."""
        return math.sqrt(sum(v * v for offset in self.offsets for v in offset) / len(self.offsets))

    def value(self, x: Array) -> Array:
        """The values of the inner problem."""
        return self.inner.value(x)

    def gradient(self, x: Array) -> Array:
        """The gradient of the inner problem."""
        return self.inner.gradient(x)

    def sample_gradient(self, x: Array, draw: Any) -> Array:
        """The inner gradient plus the drawn offset."""
        noise = np.asarray(self.offsets)[draw[:, 0]]
        return np.asarray(self.inner.gradient(x) + (noise[:, 0] if self.dim == 1 else noise))

    def draw(self, u: Array) -> NDArray[np.int64]:
        """The index of one of the offsets, from uniform numbers."""
        return (u * len(self.offsets)).astype(np.int64)
