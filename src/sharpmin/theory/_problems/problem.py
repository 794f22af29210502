"""The interface of a problem: values, gradients per sample, and the constants that the statements use."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from sharpmin.core.extras import optional

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
else:
    np = optional("numpy", extra="lab")


class Problem(ABC):
    """A function `f = E l(.; xi)` on R^dim, evaluated on many lanes at once.

    Points have shape (lanes,) if `dim` is 1, else (lanes, dim). A problem with one sample is deterministic.

    Attributes:
        name: the problem's name in tables.
        dim: the dimension.
        batch: how many samples one stochastic gradient draws, with replacement.
    """

    name: str
    dim: int
    batch: int = 1

    @property
    @abstractmethod
    def beta(self) -> float:
        """Smoothness of f: the gradient is beta-Lipschitz; inf if it is not Lipschitz."""

    @property
    def mu(self) -> float:
        """Strong convexity of f; 0 if there is none."""
        return 0.0

    @property
    def pl(self) -> float:
        """The PL constant: ||grad f||^2 >= 2 pl (f - f*); at least `mu`."""
        return self.mu

    @property
    def beta_component(self) -> float:
        """Smoothness of every sample's l."""
        return self.beta

    @property
    def beta_batch(self) -> float:
        """Root mean square smoothness of the batches that a stochastic gradient draws; `beta_component` if not known."""
        return self.beta_component

    @property
    def sigma(self) -> float:
        """sup over x of (E ||grad l(x; xi) - grad f(x)||^2)^(1/2); inf if unbounded."""
        return 0.0

    @property
    def residual(self) -> tuple[float, float, float] | None:
        """(A, B, C) with E ||grad l||^2 <= 2 A (f - f*) + B ||grad f||^2 + C; (0, 1, sigma^2), or None where that is inf."""
        square = self.sigma * self.sigma
        return (0.0, 1.0, square) if math.isfinite(square) else None

    @property
    def f_star(self) -> float:
        """The infimum of f."""
        return 0.0

    @property
    def resolution(self) -> float:
        """The rounding error of `gap`: 0 where f* = 0 needs no subtraction."""
        return 0.0

    @abstractmethod
    def value(self, x: Array) -> Array:
        """f, shape (lanes,)."""

    @abstractmethod
    def gradient(self, x: Array) -> Array:
        """The full gradient, the shape of x."""

    def sample_gradient(self, x: Array, draw: Any) -> Array:
        """The gradient of the drawn samples, `draw` of shape (lanes, batch); the full gradient if deterministic."""
        return self.gradient(x)

    def draw(self, u: Array) -> NDArray[np.int64]:
        """Sample indices from uniform numbers in [0, 1), elementwise."""
        return np.zeros(u.shape, dtype=np.int64)

    def gap(self, x: Array) -> Array:
        """f(x) - f*, shape (lanes,)."""
        return self.value(x) - self.f_star

    def norm(self, g: Array) -> Array:
        """The Euclidean norm per lane."""
        return np.abs(g) if self.dim == 1 else np.sqrt(np.einsum("ij,ij->i", g, g))

    def __repr__(self) -> str:
        return f"<Problem {self.name}, dim {self.dim}>"
