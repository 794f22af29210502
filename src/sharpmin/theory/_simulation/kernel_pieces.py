"""The compiled inner loop of exact steps in the plane, on functions that are quadratic on cells; see `kernel.py`."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from .jit import TILE, entry, flush, jit, least_of, radius_of

with suppress(ModuleNotFoundError):  # without numba nothing is compiled
    import numpy as np


@jit
def _cell(p: float, q: float, conditions: Any) -> int:
    """The cell whose worst condition at (p, q) is largest."""
    best, at = -np.inf, 0
    for k in range(conditions.shape[0]):
        room = np.inf
        for i in range(conditions.shape[1]):
            left = conditions[k, i, 0] * p + conditions[k, i, 1] * q + conditions[k, i, 2]
            room = left if left < room else room
        if room > best:
            best, at = room, k
        if best > 0.0:  # cells meet at their edges only
            break
    return at


@entry
def pieces_steps(
    x: Any, conditions: Any, slopes: Any, constants: Any, lr: Any, a_rho: Any, c_rho: Any, lr_t: Any, a_t: Any, c_t: Any,
    modes: Any, clip: float, sums: Any, least: Any,
) -> None:  # fmt: skip
    """`len(lr_t)` exact steps of points x of shape (L, 2), in place; everything else as in `quadratic_steps`."""
    unit, kind, clipped, means = modes
    for o in range(len(x)):
        for s in range(len(lr_t)):
            if s % TILE == 0:
                flush(x[o])
            p, q = x[o, 0], x[o, 1]
            k = _cell(p, q, conditions)
            g0 = slopes[k, 0, 0] * p + slopes[k, 0, 1] * q + slopes[k, 0, 2]
            g1 = slopes[k, 1, 0] * p + slopes[k, 1, 1] * q + slopes[k, 1, 2]
            n = np.sqrt(g0 * g0 + g1 * g1)
            radius = radius_of(n, kind, a_rho[o] * a_t[s], c_rho[o] * c_t[s])
            stretch = radius / (n if n > 0.0 else 1.0) if unit else radius
            v, w = p + stretch * g0, q + stretch * g1
            k = _cell(v, w, conditions)
            d0 = slopes[k, 0, 0] * v + slopes[k, 0, 1] * w + slopes[k, 0, 2]
            d1 = slopes[k, 1, 0] * v + slopes[k, 1, 1] * w + slopes[k, 1, 2]
            if means:
                square = g0 * g0 + g1 * g1
                sums[0][o] += square
                sums[1][o] += 0.5 * ((d0 + slopes[k, 0, 2]) * v + (d1 + slopes[k, 1, 2]) * w) + constants[k]
                least[o] = least_of(least[o], square)
            if clipped:
                e0, e1 = d0 - g0, d1 - g1
                size = np.sqrt(e0 * e0 + e1 * e1)
                factor = clip * n / (size if size > 0.0 else 1.0)
                kept = factor if factor < 1.0 and size > 0.0 else 1.0
                d0, d1 = g0 + kept * e0, g1 + kept * e1
            x[o, 0], x[o, 1] = p - lr[o] * lr_t[s] * d0, q - lr[o] * lr_t[s] * d1
