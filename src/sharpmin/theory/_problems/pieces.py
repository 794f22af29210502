"""Functions of the plane that are quadratic on polyhedral cells and continuously differentiable across them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from sharpmin.core.extras import optional

from .problem import Problem

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .problem import Array
else:
    np = optional("numpy", extra="lab")


@dataclass(frozen=True, repr=False, eq=False)
class Pieces(Problem):
    """f(z) = z'A_k z/2 + b_k'z + c_k on cell k, the set where every c'z + d of its conditions is >= 0; f* = 0.

    The cells cover the plane and meet at their edges only, where value and gradient agree. So the cell of a point is the one
    whose worst condition is largest, and rounding at an edge does no harm.

    Attributes:
        name: the problem's name in tables.
        conditions: shape (cells, conditions, 3), rows (c_1, c_2, d).
        slopes: shape (cells, 2, 3), the columns of A_k followed by b_k.
        constants: shape (cells,), c_k.
        high: beta.
        low: mu.
        rounding: the rounding error of `gap`.
    """

    name: str
    conditions: Array
    slopes: Array
    constants: Array
    high: float
    low: float
    rounding: float = 0.0
    dim: int = 2

    @property
    def beta(self) -> float:
        """The largest curvature."""
        return self.high

    @property
    def mu(self) -> float:
        """The least curvature."""
        return self.low

    @property
    def resolution(self) -> float:
        """The rounding error of `gap` that was given."""
        return self.rounding

    def value(self, x: Array) -> Array:
        """f, shape (lanes,)."""
        k = self._cell(x)
        return np.asarray(np.einsum("li,li->l", x, self._slope(x, k) + self.slopes[k, :, 2]) / 2 + self.constants[k])

    def gradient(self, x: Array) -> Array:
        """A_k z + b_k."""
        return self._slope(x, self._cell(x))

    def _slope(self, x: Array, k: NDArray[np.int64]) -> Array:
        return np.asarray(np.einsum("lij,lj->li", self.slopes[k, :, :2], x) + self.slopes[k, :, 2])

    def _cell(self, x: Array) -> NDArray[np.int64]:
        room = self.conditions[..., :2] @ x.T + self.conditions[..., 2:]
        return np.asarray(room.min(axis=1).argmax(axis=0))

    def scaled(self, length: float, height: float) -> Pieces:
        """The function height * f(z/length)."""
        lengths = np.array([length, length, 1.0])
        return Pieces(
            self.name,
            self.conditions / lengths,
            self.slopes * height / (length * lengths),
            self.constants * height,
            self.high * height / length**2,
            self.low * height / length**2,
            self.rounding * height,
        )


def rounded_maximum(name: str, lines: Array, *, beta: float, mu: float, rounding: float) -> Pieces:
    """f(z) = mu ||z||^2/2 + min_w { max_i (G_i'w + a_i) + L ||z - w||^2/2 }, L = beta - mu > 0.

    The minimum is the Moreau envelope of a maximum of lines: convex and L-smooth, so f is mu-strongly convex and beta-smooth.
    Its gradient, less mu z, is sum_i l_i G_i with the weights that attain

    ```
    max over l >= 0, sum l = 1 of   z' sum l_i G_i - ||sum l_i G_i||^2/(2 L) + sum l_i a_i .
    ```
    In the plane three positive weights are enough. Each set of one, two or three lines gives a cell: there its weights are
    >= 0, and no other line is above its lines at w.

    Args:
        name: of the problem.
        lines: rows (G_1, G_2, a); no three of the G on one line.
        beta: smoothness.
        mu: strong convexity.
        rounding: the rounding error of the gap.
    """
    cells = [_cell(lines, list(chosen), beta - mu) for k in (1, 2, 3) for chosen in combinations(range(len(lines)), k)]
    conditions, slopes, constants = (np.array(part) for part in zip(*cells, strict=True))
    slopes[:, [0, 1], [0, 1]] += mu
    return Pieces(name, conditions, slopes, constants, beta, mu, rounding)


def _cell(lines: Array, chosen: list[int], smoothness: float) -> tuple[Array, Array, float]:
    """Conditions, slope and constant of the cell in which exactly the `chosen` lines attain the maximum at w."""
    k, used = len(chosen), lines[chosen]
    system = np.ones((k + 1, k + 1))
    system[:k, :k], system[k, k] = used[:, :2] @ used[:, :2].T / smoothness, 0.0
    right = np.vstack([used, [0.0, 0.0, 1.0]])  # G'z + a, and the sum of the weights
    solved = np.linalg.solve(system, right)
    weights, top = solved[:k], solved[k]  # affine in z, like the values below
    slope = used[:, :2].T @ weights
    others = np.delete(lines, chosen, axis=0)
    below = top - others + others[:, :2] @ slope / smoothness  # the lines at w = z - slope/L
    constant = weights[:, 2] @ used[:, 2] - slope[:, 2] @ slope[:, 2] / (2 * smoothness)
    return np.vstack([weights, below]), slope, float(constant)
