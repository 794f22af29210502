"""The dual problem on one cell, solved in floating point by Clarabel, an interior point method: multipliers, not yet proofs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sharpmin.core.extras import optional

from .cells import Weights
from .conditions import Conditions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from scipy import sparse

    Array = NDArray[np.float64]
else:
    np = optional("numpy", extra="lab")
    sparse = optional("scipy.sparse", extra="lab")
clarabel: Any = optional("clarabel", extra="pep")


@dataclass(frozen=True)
class Solution:
    """Multipliers of the rows at each corner, (corners, rows), and of the unit vectors, (coefficients, units); and their bound.

    For a cell that is a single point, `gram` and `values` describe the run that attains the bound.
    """

    multipliers: Array
    units: Array
    bound: float
    gram: Array
    values: Array


class Solver:
    """Solves one semidefinite program per cell for its multipliers.

    ```
    min B   over multipliers l >= 0 at every corner and free ones of the unit vectors, such that for every coefficient a
            sum l_k(a) A_k(a) + units >= margin I,      sum l_k(a) limit_k + units <= B,      values: sum l_k a_k = e_N
    ```
    """

    def __init__(self, conditions: Conditions, slack: float = 0.0):
        self.conditions = conditions
        n, rows = conditions.size, conditions.rows
        self.triangle = [(i, j) for j in range(n) for i in range(j + 1)]  # Clarabel's order: columns of the upper triangle
        position = {entry: k for k, entry in enumerate(self.triangle)}
        self.powers = {p: k for k, p in enumerate(sorted({key[2] for row in rows for key in row.gram}))}
        self.count = 1 + max(k for row in rows for k in row.values)
        self.grams, self.balance = self._tables(position)
        self.limits = np.array([float(row.limit) - (slack if r else 0.0) for r, row in enumerate(rows)])
        self.goal = np.eye(self.count)[conditions.setting.steps]
        self.units = [position[i, i] for i in conditions.units]
        self.identity = np.array([float(i == j) for i, j in self.triangle])
        self.settings = clarabel.DefaultSettings()
        self.settings.verbose = False
        self.settings.max_threads = 1

    def _tables(self, position: dict[tuple[int, int], int]) -> tuple[Array, Array]:
        """For each row, the matrix A_k by powers of the norms, and the coefficients of the values."""
        rows = self.conditions.rows
        grams = np.zeros((len(rows), len(self.powers), len(position)))
        balance = np.zeros((self.count, len(rows)))
        for r, row in enumerate(rows):
            for (i, j, p), value in row.gram.items():
                grams[r, self.powers[p], position[i, j]] = float(value) * (1 if i == j else 2**0.5)
            for k, sign in row.values.items():
                balance[k, r] = sign
        return grams, balance

    def solve(self, weights: Weights, floor: float = 0.0, margin: float = 1e-9) -> Solution | None:
        """The multipliers with the smallest bound B >= `floor` on a cell; None if the solver fails."""
        rows, triangle, units, grid = len(self.limits), len(self.triangle), len(self.units), len(weights)
        corners = 1 + max(corner for entry in weights for corner, _ in entry)
        spread = np.zeros((grid, corners, len(self.powers)))
        plain = np.zeros((grid, corners))
        for a, entry in enumerate(weights):
            for (corner, powers), weight in entry.items():
                if powers in self.powers:
                    spread[a, corner, self.powers[powers]] = float(weight)
                if not any(powers):
                    plain[a, corner] = float(weight)
        free = corners * rows
        width = free + grid * units + 1
        cones = np.zeros((grid * triangle, width))
        cones[:, :free] = np.einsum("acp,rpt->atcr", spread, self.grams).reshape(grid * triangle, free)
        below = np.zeros((grid, width))
        below[:, :free] = np.einsum("ac,r->acr", plain, self.limits).reshape(grid, free)
        below[:, -1] = -1
        for a in range(grid):
            for k, entry_row in enumerate(self.units):
                cones[a * triangle + entry_row, free + a * units + k] = 1
                below[a, free + a * units + k] = 1
        equal = np.zeros((corners * self.count, width))
        equal[:, :free] = np.kron(np.eye(corners), self.balance)
        signs = np.zeros((free + 1, width))
        signs[:free, :free] = -np.eye(free)
        signs[-1, -1] = -1
        matrix = sparse.csc_matrix(np.vstack([equal, signs, below, -cones]))
        right = np.concatenate(
            [np.tile(self.goal, corners), np.zeros(free), [-floor], np.zeros(grid), np.tile(-margin * self.identity, grid)]
        )
        kinds = [
            clarabel.ZeroConeT(corners * self.count),
            clarabel.NonnegativeConeT(free + 1 + grid),
            *[clarabel.PSDTriangleConeT(self.conditions.size)] * grid,
        ]
        cost = np.eye(width)[-1]
        out = clarabel.DefaultSolver(sparse.csc_matrix((width, width)), cost, matrix, right, kinds, self.settings).solve()
        x, dual = np.array(out.x), np.array(out.z)
        if not np.isfinite(x).all():
            return None
        gram = np.zeros((self.conditions.size,) * 2)
        for (i, j), value in zip(self.triangle, dual[-triangle:], strict=True):
            gram[i, j] = gram[j, i] = value / (1 if i == j else 2**0.5)
        multipliers, of_units = x[:free].reshape(corners, rows), x[free:-1].reshape(grid, units)
        return Solution(multipliers, of_units, float(x[-1]), gram, -dual[: self.count])
