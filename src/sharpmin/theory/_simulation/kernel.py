"""The compiled inner loops: lanes in tiles of 64, the lane loop innermost so that it becomes SIMD, steps outside it.

One function runs every 1-D hinge problem with every method; `kernel_whole.py` has faster versions of the common runs, and
`kernel_quadratic.py` those on diagonal quadratics. Tests compare all of them with the NumPy reference (`reference.py`), which
they equal up to rounding. Draws are hashed inside the loop, with the same function of (seed, step, slot) as
`oracle.uniforms`, so memory does not grow with the number of steps.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from .jit import (
    EXACT,
    FIXED,
    INDEPENDENT,
    NONE,
    TILE,
    UNIT,
    draw_first,
    draw_second,
    entry,
    flush,
    jit,
    least_of,
    plus,
    radius_of,
)

with suppress(ModuleNotFoundError):  # without numba nothing is compiled
    import numpy as np

ROUNDING = 8 * 2.0**-52  # a sum of hinges below this share of its terms is rounding error and counts as 0


@jit
def _derivative(x: Any, out: Any, a: float, b: float, t: Any, c: Any) -> None:
    """Set out = a + b x + sum_k c_k max(0, x - t_k) over a tile; hinges come in pairs, unrolled."""
    t0, t1, c0, c1 = t[0], t[1], c[0], c[1]
    for i in range(TILE):
        out[i] = a + b * x[i] + c0 * plus(x[i] - t0) + c1 * plus(x[i] - t1)
    for k in range(2, len(t), 2):
        t0, t1, c0, c1 = t[k], t[k + 1], c[k], c[k + 1]
        for i in range(TILE):
            out[i] += c0 * plus(x[i] - t0) + c1 * plus(x[i] - t1)


@jit
def _value(x: Any, out: Any, a: float, b: float, t: Any, c: Any) -> None:
    """Set out = a x + b x^2/2 + sum_k c_k max(0, x - t_k)^2/2 over a tile."""
    for i in range(TILE):
        out[i] = a * x[i] + b * x[i] * x[i] / 2.0
    for k in range(len(t)):
        tk, ck = t[k], c[k]
        for i in range(TILE):
            v = x[i] - tk
            v = v if v > 0.0 else 0.0
            out[i] += ck * (v * v) / 2.0


@jit
def _of_two(x: Any, out: Any, index: Any, a: Any, b: Any, t: Any, c: Any) -> None:
    """The derivative of the drawn sample, one of two: they share their knots, so this costs little more than one."""
    a0, a1, b0, b1 = a[0], a[1], b[0], b[1]
    t0, t1, p0, p1, q0, q1 = t[0], t[1], c[0, 0], c[0, 1], c[1, 0], c[1, 1]
    for i in range(TILE):
        v, w = plus(x[i] - t0), plus(x[i] - t1)
        out[i] = a1 + b1 * x[i] + q0 * v + q1 * w if index[i] == 1 else a0 + b0 * x[i] + p0 * v + p1 * w
    for k in range(2, len(t), 2):
        t0, t1, p0, p1, q0, q1 = t[k], t[k + 1], c[0, k], c[0, k + 1], c[1, k], c[1, k + 1]
        for i in range(TILE):
            v, w = plus(x[i] - t0), plus(x[i] - t1)
            out[i] += q0 * v + q1 * w if index[i] == 1 else p0 * v + p1 * w


@jit
def _of_many(x: Any, out: Any, other: Any, index: Any, a: Any, b: Any, t: Any, c: Any) -> None:
    """The derivative of the drawn sample, one of many: computed for every sample, kept where that sample was drawn."""
    _derivative(x, out, a[0], b[0], t, c[0])
    for k in range(1, len(a)):
        _derivative(x, other, a[k], b[k], t, c[k])
        for i in range(TILE):
            out[i] = other[i] if index[i] == k else out[i]


@jit
def _sampled(x: Any, out: Any, other: Any, index: Any, a: Any, b: Any, t: Any, c: Any) -> None:
    """The derivative of the drawn sample over a tile, for any number of samples."""
    if len(a) == 2:
        _of_two(x, out, index, a, b, t, c)
    else:
        _of_many(x, out, other, index, a, b, t, c)


@jit
def _settle(x: Any, g: Any, size: Any, a: float, b: float, t: Any, c: Any) -> None:
    """Set derivatives within rounding error of 0 to 0; a, b, c are the largest coefficients of any sample."""
    for i in range(TILE):
        size[i] = a + b * abs(x[i])
    for k in range(len(t)):
        tk, ck = t[k], c[k]
        for i in range(TILE):
            size[i] += ck * plus(x[i] - tk)
    for i in range(TILE):
        g[i] = 0.0 if abs(g[i]) < ROUNDING * size[i] else g[i]


@jit
def _climb(x: Any, g: Any, y: Any, r: Any, ascent: int, kind: int, a: Any, c: Any, a_t: float, c_t: float) -> None:
    """y = x + r sign(g) or x + r g over a tile, with the radius r of every lane."""
    if ascent == UNIT and kind == FIXED:
        for i in range(TILE):
            r[i] = a[i] * a_t
            y[i] = x[i] + r[i] * (1.0 if g[i] > 0.0 else (-1.0 if g[i] < 0.0 else g[i]))
    elif ascent == UNIT:
        for i in range(TILE):
            r[i] = radius_of(abs(g[i]), kind, a[i] * a_t, c[i] * c_t)
            y[i] = x[i] + r[i] * (1.0 if g[i] > 0.0 else (-1.0 if g[i] < 0.0 else g[i]))
    else:
        for i in range(TILE):
            r[i] = radius_of(abs(g[i]), kind, a[i] * a_t, c[i] * c_t)
            y[i] = x[i] + r[i] * g[i]


@jit
def _descend(x: Any, g: Any, big: Any, r: Any, lr: Any, step: float) -> None:
    """x -= lr G over a tile, or lr g where the radius is 0 and there is no second pass."""
    for i in range(TILE):
        x[i] -= lr[i] * step * (g[i] if r[i] == 0.0 else big[i])


@jit
def _statistics(u: Any, gap: Any, f_star: float, squares: Any, gaps: Any, low: Any) -> None:
    """Add u^2 and f(y) - f* to their sums over t, and keep the smallest u^2."""
    for i in range(TILE):
        square = u[i] * u[i]
        squares[i] += square
        gaps[i] += gap[i] - f_star
        low[i] = least_of(low[i], square)


@entry
def hinge_steps(
    x: Any, keys: Any, lr: Any, a_rho: Any, c_rho: Any, lr_t: Any, a_t: Any, c_t: Any, start: int,
    a: Any, b: Any, t: Any, c: Any, mean: Any, bounds: Any, edges: Any, modes: Any, clip: float, sums: Any, least: Any,
    f_star: float,
) -> None:  # fmt: skip
    """`len(lr_t)` steps of 1-D lanes, in place.

    Lanes: x, keys, lr, a_rho, c_rho of length L (a multiple of TILE); lr_t, a_t, c_t over steps; a, b, t, c over samples;
    mean = (a, b, t, c) of f'; bounds = (a, b, t, c), the largest coefficients of any sample; edges the cumulative
    probabilities times 2^53, rounded up; modes = (oracle, ascent, radius, clipped, means, flat), where flat says that a
    derivative vanishes on a whole interval; the two sums (L each) and least (L) the statistics.
    """
    oracle, ascent, radius, clipped, means, flat = modes
    ma, mb, mt, mc = mean
    la, lb, lt, lc = bounds
    g, y, big, n, r, w = np.empty(TILE), np.empty(TILE), np.empty(TILE), np.empty(TILE), np.zeros(TILE), np.empty(TILE)
    draws = np.zeros(4 * TILE, np.int64)
    first = draws[TILE : 2 * TILE]
    second = draws[2 * TILE : 3 * TILE] if oracle == INDEPENDENT else first  # m-SAM: the same sample in both passes
    for o in range(0, len(x), TILE):
        p, lr_lane, a_lane, c_lane = x[o : o + TILE], lr[o : o + TILE], a_rho[o : o + TILE], c_rho[o : o + TILE]
        squares, gaps, low = sums[0][o : o + TILE], sums[1][o : o + TILE], least[o : o + TILE]
        for i in range(TILE):  # a slice assignment would take two seconds longer to compile
            draws[i] = np.int64(keys[o + i])
        for s in range(len(lr_t)):
            if s % TILE == 0:
                flush(p)
            if oracle != EXACT:
                draw_first(draws, start + s, edges)
            if oracle == INDEPENDENT:
                draw_second(draws, start + s, edges)
            if oracle == EXACT:
                _derivative(p, g, ma, mb, mt, mc)
            else:
                _sampled(p, g, w, first, a, b, t, c)
            if flat:
                _settle(p, g, w, la, lb, lt, lc)
            if ascent != NONE:
                _climb(p, g, y, r, ascent, radius, a_lane, c_lane, a_t[s], c_t[s])
                if oracle == EXACT:
                    _derivative(y, big, ma, mb, mt, mc)
                else:
                    _sampled(y, big, w, second, a, b, t, c)
            if means:
                _value(y if ascent != NONE else p, w, ma, mb, mt, mc)
                if oracle == EXACT:
                    _statistics(g, w, f_star, squares, gaps, low)
                else:
                    _derivative(p, n, ma, mb, mt, mc)
                    _statistics(n, w, f_star, squares, gaps, low)
            if clipped and ascent != NONE:
                for i in range(TILE):
                    d = big[i] - g[i]
                    size = abs(d)
                    factor = clip * abs(g[i]) / (size if size > 0.0 else 1.0)
                    big[i] = g[i] + (factor if factor < 1.0 and size > 0.0 else 1.0) * d
            _descend(p, g, big, r, lr_lane, lr_t[s])
