"""The compiled inner loop of exact steps on diagonal quadratics; see `kernel.py`.

As in `kernel_whole.py`, a tile is one array: rows of one number per lane, then the coordinates in pairs. A step reads the
coordinates twice: for the norm of the gradient, and for the descent, which also computes f at the perturbed point.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from .jit import FIXED, TILE, entry, flush, jit, least_of, radius_of

with suppress(ModuleNotFoundError):  # without numba nothing is compiled
    import numpy as np

NORM, STRETCH, KEPT, STEP, LR, A, C, SQUARES, GAPS, LOW, FIRST = (TILE * row for row in range(11))


@jit
def _squared_norm(tile: Any, lam: Any) -> None:
    """Set row NORM to sum_j (lam_j x_j)^2."""
    l0, l1, x = lam[0], lam[1], tile[FIRST : FIRST + 2 * TILE]
    for i in range(TILE):
        g0, g1 = l0 * x[i], l1 * x[i + TILE]
        tile[i + NORM] = g0 * g0 + g1 * g1
    for j in range(2, len(lam), 2):
        l0, l1, x = lam[j], lam[j + 1], tile[FIRST + TILE * j : FIRST + TILE * (j + 2)]
        for i in range(TILE):
            g0, g1 = l0 * x[i], l1 * x[i + TILE]
            tile[i + NORM] += g0 * g0 + g1 * g1


def _looking(means: bool) -> Any:
    """A function that computes STRETCH (the factor of g in y) and STEP from the squared NORM, and keeps it if `means`."""

    def look(tile: Any, unit: bool, kind: int, a_t: float, c_t: float, lr_t: float) -> None:
        for i in range(TILE):
            square = tile[i + NORM]
            n = np.sqrt(square)
            radius = radius_of(n, kind, tile[i + A] * a_t, tile[i + C] * c_t)
            tile[i + NORM], tile[i + STRETCH] = n, radius / (n if n > 0.0 else 1.0) if unit else radius
            tile[i + STEP] = tile[i + LR] * lr_t
            if means:
                tile[i + SQUARES] += square
                tile[i + LOW] = least_of(tile[i + LOW], square)

    return jit(look)


@jit
def _share(tile: Any, lam: Any, clip: float) -> None:
    """Set row KEPT to the share of G - g that a clipped step keeps."""
    for i in range(TILE):
        tile[i + KEPT] = 0.0
    for j in range(0, len(lam), 2):
        l0, l1, x = lam[j], lam[j + 1], tile[FIRST + TILE * j : FIRST + TILE * (j + 2)]
        for i in range(TILE):
            r = tile[i + STRETCH]
            d0, d1 = l0 * (r * (l0 * x[i])), l1 * (r * (l1 * x[i + TILE]))
            tile[i + KEPT] += d0 * d0 + d1 * d1
    for i in range(TILE):
        size = np.sqrt(tile[i + KEPT])
        factor = clip * tile[i + NORM] / (size if size > 0.0 else 1.0)
        tile[i + KEPT] = factor if factor < 1.0 and size > 0.0 else 1.0


def _descending(clipped: bool, means: bool) -> Any:
    """A function that subtracts STEP times G, or g + KEPT (G - g), and adds f(y) to GAPS if `means`."""

    def descend(tile: Any, lam: Any) -> None:
        for j in range(0, len(lam), 2):
            l0, l1, x = lam[j], lam[j + 1], tile[FIRST + TILE * j : FIRST + TILE * (j + 2)]
            for i in range(TILE):
                x0, x1, r, lr = x[i], x[i + TILE], tile[i + STRETCH], tile[i + STEP]
                y0, y1 = x0 + r * (l0 * x0), x1 + r * (l1 * x1)
                big0, big1 = l0 * y0, l1 * y1
                if means:
                    tile[i + GAPS] += 0.5 * (big0 * y0 + big1 * y1)
                if clipped:
                    g0, g1, kept = l0 * x0, l1 * x1, tile[i + KEPT]
                    big0, big1 = g0 + kept * (l0 * (r * g0)), g1 + kept * (l1 * (r * g1))
                x[i], x[i + TILE] = x0 - lr * big0, x1 - lr * big1

    return jit(descend)


_LOOK, _LOOK_MEANS = _looking(False), _looking(True)
_DESCEND, _DESCEND_MEANS, _CLIPPED = _descending(False, False), _descending(False, True), _descending(True, True)


@entry
def quadratic_steps(
    x: Any,
    lam: Any,
    lr: Any,
    a_rho: Any,
    c_rho: Any,
    lr_t: Any,
    a_t: Any,
    c_t: Any,
    modes: Any,
    clip: float,
    sums: Any,
    least: Any,
) -> None:
    """`len(lr_t)` exact steps on sum_j lam_j x_j^2/2, in place; x has shape (L, dim), everything else as in `hinge_steps`.

    `lam` is as long as the next even number, with a 0 for a coordinate that is not there. modes = (unit, kind, clipped, means);
    a clipped step adds f(y) to its sum in any case.
    """
    unit, kind, clipped, means = modes
    tile = np.zeros(FIRST + TILE * len(lam))
    for o in range(0, len(x), TILE):
        for i in range(TILE):
            tile[i + LR], tile[i + A], tile[i + C] = lr[o + i], a_rho[o + i], c_rho[o + i]
            tile[i + SQUARES], tile[i + GAPS], tile[i + LOW] = sums[0][o + i], sums[1][o + i], least[o + i]
        for j in range(x.shape[1]):
            p = tile[FIRST + TILE * j : FIRST + TILE * (j + 1)]
            for i in range(TILE):
                p[i] = x[o + i, j]
        for s in range(len(lr_t)):
            if s % TILE == 0:
                flush(tile[FIRST:])
            if unit or kind != FIXED or clipped or means:
                _squared_norm(tile, lam)
            if means:
                _LOOK_MEANS(tile, unit, kind, a_t[s], c_t[s], lr_t[s])
            else:
                _LOOK(tile, unit, kind, a_t[s], c_t[s], lr_t[s])
            if clipped:
                _share(tile, lam, clip)
                _CLIPPED(tile, lam)
            elif means:
                _DESCEND_MEANS(tile, lam)
            else:
                _DESCEND(tile, lam)
            tile[FIRST + TILE * x.shape[1] :] = 0.0  # inf * 0 in a lane that diverges would be nan
        for i in range(TILE):
            sums[0][o + i], sums[1][o + i], least[o + i] = tile[i + SQUARES], tile[i + GAPS], tile[i + LOW]
        for j in range(x.shape[1]):
            p = tile[FIRST + TILE * j : FIRST + TILE * (j + 1)]
            for i in range(TILE):
                x[o + i, j] = p[i]
