"""The compiled inner loops of the common runs: normalized steps with a radius that does not depend on g, without clipping.

A step and its statistics are one loop over the lanes of a tile, in registers from start to end. A tile is one array,
`tile[row + i]`: since rows are at constant distances, the compiler need not check at run time that they do not overlap.
If f' is 0 on an interval, or has more hinges than are written out here, `kernel.py` runs instead.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from .jit import TILE, draw_first, draw_second, entry, flush, jit, least_of, plus

with suppress(ModuleNotFoundError):  # without numba nothing is compiled
    import numpy as np

X, LR, RHO, SQUARES, GAPS, LOW = (TILE * row for row in range(6))


@jit
def _load(tile: Any, o: int, x: Any, lr: Any, rho: Any, sums: Any, least: Any) -> None:
    """The rows of the tile that begins at lane o."""
    for i in range(TILE):
        tile[i + X], tile[i + LR], tile[i + RHO] = x[o + i], lr[o + i], rho[o + i]
        tile[i + SQUARES], tile[i + GAPS], tile[i + LOW] = sums[0][o + i], sums[1][o + i], least[o + i]


@jit
def _store(tile: Any, o: int, x: Any, sums: Any, least: Any) -> None:
    """Copy the rows that a step changes back to the arrays of all lanes."""
    for i in range(TILE):
        x[o + i] = tile[i + X]
        sums[0][o + i], sums[1][o + i], least[o + i] = tile[i + SQUARES], tile[i + GAPS], tile[i + LOW]


def _exact(means: bool) -> Any:
    """A compiled function for f' = a + b x + c_0 max(0, x - t_0) + c_1 max(0, x - t_1); with `means` it keeps the statistics.

    Its arguments are those of `hinge_steps`; the radius at step t is `rho` of the lane times `rho_t`.
    """

    def exact_steps(
        x: Any, lr: Any, rho: Any, lr_t: Any, rho_t: Any, a: float, b: float, t: Any, c: Any,
        f_star: float, sums: Any, least: Any,
    ) -> None:  # fmt: skip
        tile = np.empty(6 * TILE)
        t0, t1, c0, c1, twice = t[0], t[1], c[0], c[1], 2.0 * f_star
        for o in range(0, len(x), TILE):
            _load(tile, o, x, lr, rho, sums, least)
            for s in range(len(lr_t)):
                if s % TILE == 0:
                    flush(tile[:TILE])
                lr_s, rho_s = lr_t[s], rho_t[s]
                for i in range(TILE):
                    v, r = tile[i + X], tile[i + RHO] * rho_s
                    g = a + b * v + c0 * plus(v - t0) + c1 * plus(v - t1)
                    y = v + ((r if g > 0.0 else 0.0) - (r if g < 0.0 else 0.0))
                    h0, h1, line = plus(y - t0), plus(y - t1), a + b * y
                    tile[i + X] = v - tile[i + LR] * lr_s * (line + c0 * h0 + c1 * h1)  # at r = 0 y is x, and G is g
                    if means:
                        square = g * g
                        tile[i + SQUARES] += square
                        tile[i + GAPS] += 0.5 * ((a + line) * y - twice + c0 * h0 * h0 + c1 * h1 * h1)
                        tile[i + LOW] = least_of(tile[i + LOW], square)
            _store(tile, o, x, sums, least)

    return entry(exact_steps)


def _of_two(means: bool, independent: bool) -> Any:
    """A compiled function for two samples with up to four hinges each: the same draw in both passes, or `independent` ones.

    With `means` it keeps the statistics of f, whose derivative must be affine, ma + mb x. Where r = 0 the second of two
    independent samples is not used.
    """

    def two_steps(
        x: Any, keys: Any, lr: Any, rho: Any, lr_t: Any, rho_t: Any, start: int, a: Any, b: Any, t: Any, c: Any, edges: Any,
        ma: float, mb: float, f_star: float, sums: Any, least: Any,
    ) -> None:  # fmt: skip
        tile, draws = np.empty(6 * TILE), np.empty(4 * TILE, np.int64)
        a0, a1, b0, b1, t0, t1, t2, t3, twice = a[0], a[1], b[0], b[1], t[0], t[1], t[2], t[3], 2.0 * f_star
        p0, p1, p2, p3, q0, q1, q2, q3 = c[0, 0], c[0, 1], c[0, 2], c[0, 3], c[1, 0], c[1, 1], c[1, 2], c[1, 3]
        for o in range(0, len(x), TILE):
            _load(tile, o, x, lr, rho, sums, least)
            for i in range(TILE):
                draws[i] = np.int64(keys[o + i])
            for s in range(len(lr_t)):
                if s % TILE == 0:
                    flush(tile[:TILE])
                draw_first(draws, start + s, edges)
                if independent:
                    draw_second(draws, start + s, edges)
                lr_s, rho_s = lr_t[s], rho_t[s]
                for i in range(TILE):
                    p, r, one = tile[i + X], tile[i + RHO] * rho_s, draws[i + TILE] == 1
                    v, w, c0, c1 = a1 if one else a0, b1 if one else b0, q0 if one else p0, q1 if one else p1
                    c2, c3 = q2 if one else p2, q3 if one else p3
                    g = v + w * p + c0 * plus(p - t0) + c1 * plus(p - t1) + c2 * plus(p - t2) + c3 * plus(p - t3)
                    y = p + ((r if g > 0.0 else 0.0) - (r if g < 0.0 else 0.0))
                    if independent:
                        one = draws[i + 2 * TILE] == 1
                        v, w, c0, c1 = a1 if one else a0, b1 if one else b0, q0 if one else p0, q1 if one else p1
                        c2, c3 = q2 if one else p2, q3 if one else p3
                    big = v + w * y + c0 * plus(y - t0) + c1 * plus(y - t1) + c2 * plus(y - t2) + c3 * plus(y - t3)
                    if independent:
                        big = g if r == 0.0 else big
                    tile[i + X] = p - tile[i + LR] * lr_s * big
                    if means:
                        square = (ma + mb * p) * (ma + mb * p)
                        tile[i + SQUARES] += square
                        tile[i + GAPS] += 0.5 * ((2.0 * ma + mb * y) * y - twice)
                        tile[i + LOW] = least_of(tile[i + LOW], square)
            _store(tile, o, x, sums, least)

    return entry(two_steps)


# compiled when first called
EXACT_STEPS = {means: _exact(means) for means in (False, True)}
OF_TWO = {(means, independent): _of_two(means, independent) for means in (False, True) for independent in (False, True)}
