"""Exact proofs of bounds: multipliers are rounded and balanced, and their matrices checked to be definite, in rationals."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import lcm
from typing import TYPE_CHECKING, Any

from .cells import Weights
from .conditions import Conditions, Powers

if TYPE_CHECKING:
    from .solver import Solution

BITS = 44
"""Multipliers are rounded to multiples of 2^-BITS."""


class Checker:
    """Turns multipliers into a proved bound, or reports that they prove none."""

    def __init__(self, conditions: Conditions):
        self.conditions = conditions
        self.scale = lcm(*(value.denominator for row in conditions.rows for value in row.gram.values()))
        self.entries = [
            (r, p, i, j, int(value * self.scale))
            for r, row in enumerate(conditions.rows)
            for (i, j, p), value in row.gram.items()
        ]

    def rounded(self, solution: Solution) -> tuple[list[list[int]], list[list[int]]]:
        """Multipliers in units of 2^-BITS; those of the corners are adjusted to be >= 0 and balanced."""
        corners = []
        for corner in solution.multipliers.tolist():
            whole = [max(0, round(value * 2**BITS)) for value in corner]
            for k, rest in self._unbalanced(whole).items():
                whole[self.conditions.pairs[(-1, k) if rest > 0 else (k, -1)]] += abs(rest)
            corners.append(whole)
        return corners, [[round(value * 2**BITS) for value in row] for row in solution.units.tolist()]

    def proved(self, weights: Weights, corners: Sequence[Sequence[int]], units: Sequence[Sequence[int]]) -> Fraction | None:
        """The bound that multipliers in units of 2^-BITS prove, or None.

        Raises:
            ValueError: for multipliers that are negative, or under which values of f other than f(x_N) remain.
        """
        if any(min(corner) < 0 or any(self._unbalanced(corner).values()) for corner in corners):
            raise ValueError(
                "certify: these multipliers prove nothing: at every corner they must be >= 0, and the values of f must cancel"
            )
        sums = [self._sums(corner) for corner in corners]
        proved = []
        for entry, free in zip(weights, units, strict=True):
            common = lcm(*(weight.denominator for weight in entry.values()))
            n = self.conditions.size
            matrix = [[0] * n for _ in range(n)]
            value = Fraction(sum(free))
            for (corner, powers), weight in entry.items():
                factor = int(weight * common)
                for i, j, amount in sums[corner].get(powers, ()):
                    matrix[i][j] += factor * amount
                if not any(powers):
                    value += weight * sum(
                        multiplier * row.limit
                        for multiplier, row in zip(corners[corner], self.conditions.rows, strict=True)
                        if row.limit
                    )
            for k, amount in zip(self.conditions.units, free, strict=True):
                matrix[k][k] += self.scale * common * amount
            if not positive_definite(matrix):
                return None
            proved.append(value)
        return max(proved) / (1 << BITS)

    def _unbalanced(self, corner: Sequence[int]) -> dict[int, int]:
        """For each value of f, how far its coefficient under these multipliers is off; all 0 if they are balanced."""
        left = {self.conditions.setting.steps: 2**BITS}
        for row, value in zip(self.conditions.rows, corner, strict=True):
            for k, sign in row.values.items():
                left[k] = left.get(k, 0) - sign * value
        return left

    def _sums(self, corner: Sequence[int]) -> dict[Powers, list[tuple[int, int, int]]]:
        """The sum of multiplier times matrix, by powers of u, as entries (i, j, amount) with i <= j."""
        total: dict[Powers, dict[tuple[int, int], int]] = {}
        for r, p, i, j, value in self.entries:
            if corner[r]:
                at = total.setdefault(p, {})
                at[i, j] = at.get((i, j), 0) + corner[r] * value
        return {p: [(i, j, amount) for (i, j), amount in at.items()] for p, at in total.items()}


def positive_definite(matrix: list[list[Any]]) -> bool:
    """Whether a symmetric matrix of integers, given by its upper triangle, is positive definite: all leading minors are > 0.

    Elimination without fractions (Bareiss, 1968): the pivots are the minors.

    >>> positive_definite([[2, 1], [0, 1]]), positive_definite([[1, 1], [0, 1]])
    (True, False)
    """
    n = len(matrix)
    a = [list(row) for row in matrix]
    previous = 1
    for k in range(n):
        pivot = a[k][k]
        if pivot <= 0:
            return False
        for i in range(k + 1, n):
            for j in range(i, n):
                a[i][j] = (a[i][j] * pivot - a[k][i] * a[k][j]) // previous
        previous = pivot
    return True
