"""The lr at which a bound is smallest."""

from __future__ import annotations

import math
from collections.abc import Callable

DECADES = 30
"""The smallest lr tried is 10^-DECADES times the largest."""

_GOLDEN = (math.sqrt(5) - 1) / 2
_SECTIONS = 46  # lr to 1e-9 between points a factor of 100 apart


def least(value: Callable[[float], float], top: float) -> float:
    """The point of (0, top] where a positive function is smallest: powers of ten, then golden section around the best.

    It is exact for a function that falls and then rises, as every registered bound does: there the minimum lies between the
    neighbors of the best power of ten. For any other function it is the minimum near that power. `value` is inf where
    a statement does not hold.
    """
    grid = [top * 10.0**-k for k in range(DECADES + 1)]
    values = [value(point) for point in grid]
    smallest = min(values)
    if smallest == math.inf:
        return grid[-1]
    best = values.index(smallest)  # of equals the largest: what is flat lies to the left, where lr no longer counts
    low, high = math.log(grid[min(best + 1, DECADES)]), math.log(grid[max(best - 1, 0)])
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = value(math.exp(left)), value(math.exp(right))
    for _ in range(_SECTIONS):
        if at_left < at_right or at_right == math.inf:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = value(math.exp(left))
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = value(math.exp(right))
    return min((grid[best], math.exp(left), math.exp(right)), key=value)
