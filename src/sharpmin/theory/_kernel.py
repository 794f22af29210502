"""The compiled inner loops: lanes in tiles of 64, the lane loop innermost so that it becomes SIMD, steps outside it.

One function serves every 1-D hinge problem and every method, one more the diagonal quadratics. Both equal the NumPy
reference (`_reference.py`) up to rounding; the tests hold them to it. Draws are hashed inside the loop, with the same
function of (seed, step, slot) as `_oracle.uniforms`, so memory does not grow with the number of steps.
"""

from __future__ import annotations

from typing import Any

try:
    import numpy as np
    from numba import njit as _njit
except ModuleNotFoundError:  # the reference simulator serves then
    _njit = None  # type: ignore[assignment]

AVAILABLE = _njit is not None
TILE = 64
EXACT, SAME, INDEPENDENT = 0, 1, 2  # the oracle
NONE, UNIT, RAW = 0, 1, 2  # the ascent
FIXED, RELATIVE, CAPPED = 0, 1, 2  # the radius: a, c n, min(a, c n)


def _jit(function: Any) -> Any:
    """Compile, with a cache on disk where there is a place for one."""
    if _njit is None:
        return function
    options: dict[str, Any] = {"fastmath": {"nsz", "contract"}, "nogil": True, "error_model": "numpy"}
    try:
        return _njit(cache=True, **options)(function)
    except RuntimeError:  # typed into a REPL, or installed where nothing may be written
        return _njit(**options)(function)


@_jit
def _plus(v: float) -> float:
    """max(0, v)."""
    return v if v > 0.0 else 0.0


@_jit
def _derivative(x: Any, out: Any, a: float, b: float, t: Any, c: Any) -> None:
    """Out = a + b x + sum_k c_k max(0, x - t_k) over a tile; hinges come in pairs, unrolled."""
    t0, t1, c0, c1 = t[0], t[1], c[0], c[1]
    for i in range(TILE):
        out[i] = a + b * x[i] + c0 * _plus(x[i] - t0) + c1 * _plus(x[i] - t1)
    for k in range(2, len(t), 2):
        t0, t1, c0, c1 = t[k], t[k + 1], c[k], c[k + 1]
        for i in range(TILE):
            out[i] += c0 * _plus(x[i] - t0) + c1 * _plus(x[i] - t1)


@_jit
def _value(x: Any, out: Any, a: float, b: float, t: Any, c: Any) -> None:
    """Out = a x + b x^2/2 + sum_k c_k max(0, x - t_k)^2/2 over a tile."""
    for i in range(TILE):
        out[i] = a * x[i] + b * x[i] * x[i] / 2.0
    for k in range(len(t)):
        tk, ck = t[k], c[k]
        for i in range(TILE):
            v = x[i] - tk
            v = v if v > 0.0 else 0.0
            out[i] += ck * (v * v) / 2.0


@_jit
def _draw(keys: Any, step: int, slot: int, edges: Any, index: Any) -> None:
    """The sample of every lane: `_oracle.uniforms`, then the slice of [0, 1) that holds it, in integers."""
    golden, one = np.uint64(0x9E3779B97F4A7C15), np.uint64(1)
    m1, m2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
    s30, s27, s31, s11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)
    by_step, by_slot = (np.uint64(step) + one) * golden, np.uint64(slot) * golden
    first = edges[0]
    for i in range(TILE):
        z = keys[i] + by_step
        z = (z ^ (z >> s30)) * m1
        z = (z ^ (z >> s27)) * m2
        z = (z ^ (z >> s31)) + by_slot
        z = (z ^ (z >> s30)) * m1
        z = (z ^ (z >> s27)) * m2
        z = (z ^ (z >> s31)) >> s11
        index[i] = 1 if np.int64(z) >= first else 0
        keys[i + TILE] = z
    for k in range(1, len(edges)):
        edge = edges[k]
        for i in range(TILE):
            index[i] += 1 if np.int64(keys[i + TILE]) >= edge else 0


@_jit
def _of_two(x: Any, out: Any, index: Any, a: Any, b: Any, t: Any, c: Any) -> None:
    """The derivative of the drawn sample, one of two: they share their knots, so this costs little more than one."""
    a0, a1, b0, b1 = a[0], a[1], b[0], b[1]
    t0, t1, p0, p1, q0, q1 = t[0], t[1], c[0, 0], c[0, 1], c[1, 0], c[1, 1]
    for i in range(TILE):
        v, w = _plus(x[i] - t0), _plus(x[i] - t1)
        out[i] = a1 + b1 * x[i] + q0 * v + q1 * w if index[i] == 1 else a0 + b0 * x[i] + p0 * v + p1 * w
    for k in range(2, len(t), 2):
        t0, t1, p0, p1, q0, q1 = t[k], t[k + 1], c[0, k], c[0, k + 1], c[1, k], c[1, k + 1]
        for i in range(TILE):
            v, w = _plus(x[i] - t0), _plus(x[i] - t1)
            out[i] += q0 * v + q1 * w if index[i] == 1 else p0 * v + p1 * w


@_jit
def _of_many(x: Any, out: Any, other: Any, index: Any, a: Any, b: Any, t: Any, c: Any) -> None:
    """The derivative of the drawn sample: every sample's is computed, and kept where it was drawn."""
    _derivative(x, out, a[0], b[0], t, c[0])
    for k in range(1, len(a)):
        _derivative(x, other, a[k], b[k], t, c[k])
        for i in range(TILE):
            out[i] = other[i] if index[i] == k else out[i]


@_jit
def _sampled(x: Any, out: Any, other: Any, index: Any, a: Any, b: Any, t: Any, c: Any) -> None:
    """The derivative of the drawn sample."""
    if len(a) == 2:
        _of_two(x, out, index, a, b, t, c)
    else:
        _of_many(x, out, other, index, a, b, t, c)


@_jit
def _radii(out: Any, size: Any, kind: int, a: Any, c: Any, a_t: float, c_t: float) -> None:
    """a, c n or min(a, c n) per lane."""
    for i in range(TILE):
        fixed, relative = a[i] * a_t, c[i] * c_t * size[i]
        if kind == FIXED:
            out[i] = fixed
        elif kind == RELATIVE:
            out[i] = relative
        else:
            out[i] = fixed if fixed < relative else relative


@_jit
def _statistics(u: Any, gap: Any, f_star: float, squares: Any, gaps: Any, low: Any) -> None:
    """Add u^2 and f(y) - f* to their sums, and keep the least u^2."""
    for i in range(TILE):
        square = u[i] * u[i]
        squares[i] += square
        gaps[i] += gap[i] - f_star
        low[i] = square if square < low[i] else low[i]


@_jit
def hinge_steps(
    x: Any, keys: Any, lr: Any, a_rho: Any, c_rho: Any, lr_t: Any, a_t: Any, c_t: Any, start: int,
    a: Any, b: Any, t: Any, c: Any, mean: Any, edges: Any, modes: Any, clip: float, sums: Any, least: Any, f_star: float,
) -> None:  # fmt: skip
    """`len(lr_t)` steps of 1-D lanes, in place.

    Lanes: x, keys, lr, a_rho, c_rho of length L (a multiple of TILE); lr_t, a_t, c_t over steps; a, b, t, c over samples;
    mean = (a, b, t, c) of f'; edges the cumulative probabilities times 2^53, rounded up; modes = (oracle, ascent, radius,
    clipped, means); sums (2, L) and least (L) the statistics.
    """
    oracle, ascent, radius, clipped, means = modes
    ma, mb, mt, mc = mean
    g, y, big, n, r, w = np.empty(TILE), np.empty(TILE), np.empty(TILE), np.empty(TILE), np.empty(TILE), np.empty(TILE)
    key, first, second = np.empty(2 * TILE, np.uint64), np.zeros(TILE, np.int64), np.zeros(TILE, np.int64)
    for o in range(0, len(x), TILE):
        p, lr_lane, a_lane, c_lane = x[o : o + TILE], lr[o : o + TILE], a_rho[o : o + TILE], c_rho[o : o + TILE]
        squares, gaps, low = sums[0, o : o + TILE], sums[1, o : o + TILE], least[o : o + TILE]
        key[:TILE] = keys[o : o + TILE]
        for s in range(len(lr_t)):
            if oracle == EXACT:
                _derivative(p, g, ma, mb, mt, mc)
            else:
                _draw(key, start + s, 1, edges, first)
                _sampled(p, g, w, first, a, b, t, c)
            if ascent == NONE:
                for i in range(TILE):
                    y[i], big[i] = p[i], g[i]
            else:
                for i in range(TILE):
                    n[i] = abs(g[i])
                _radii(r, n, radius, a_lane, c_lane, a_t[s], c_t[s])
                if ascent == UNIT:
                    for i in range(TILE):
                        y[i] = p[i] + r[i] * (1.0 if g[i] > 0.0 else (-1.0 if g[i] < 0.0 else g[i]))
                else:
                    for i in range(TILE):
                        y[i] = p[i] + r[i] * g[i]
                if oracle == EXACT:
                    _derivative(y, big, ma, mb, mt, mc)
                elif oracle == SAME:
                    _sampled(y, big, w, first, a, b, t, c)
                else:
                    _draw(key, start + s, 2, edges, second)
                    _sampled(y, big, w, second, a, b, t, c)
                for i in range(TILE):
                    big[i] = g[i] if r[i] == 0.0 else big[i]
            if means:
                _value(y, w, ma, mb, mt, mc)
                if oracle == EXACT:
                    _statistics(g, w, f_star, squares, gaps, low)
                else:
                    _derivative(p, n, ma, mb, mt, mc)
                    _statistics(n, w, f_star, squares, gaps, low)
            if clipped:
                for i in range(TILE):
                    d = big[i] - g[i]
                    size = abs(d)
                    factor = clip * abs(g[i]) / (size if size > 0.0 else 1.0)
                    big[i] = g[i] + (factor if factor < 1.0 and size > 0.0 else 1.0) * d
            step = lr_t[s]
            for i in range(TILE):
                p[i] -= lr_lane[i] * step * big[i]


@_jit
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
    """`len(lr_t)` exact steps on sum_j lam_j x_j^2/2, in place; x has shape (dim, L), everything else as in `hinge_steps`."""
    _, ascent, radius, clipped, means = modes
    dim = len(lam)
    p, g, big = np.empty((dim, TILE)), np.empty((dim, TILE)), np.empty((dim, TILE))
    n, m, r, w = np.empty(TILE), np.empty(TILE), np.empty(TILE), np.empty(TILE)
    for o in range(0, x.shape[1], TILE):
        lr_lane, a_lane, c_lane = lr[o : o + TILE], a_rho[o : o + TILE], c_rho[o : o + TILE]
        squares, gaps, low = sums[0, o : o + TILE], sums[1, o : o + TILE], least[o : o + TILE]
        p[:] = x[:, o : o + TILE]
        for s in range(len(lr_t)):
            n[:] = 0.0
            for j in range(dim):
                pj, gj, curvature = p[j], g[j], lam[j]
                for i in range(TILE):
                    gj[i] = curvature * pj[i]
                    n[i] += gj[i] * gj[i]
            for i in range(TILE):
                n[i] = np.sqrt(n[i])
            r[:] = 0.0
            if ascent != NONE:
                _radii(r, n, radius, a_lane, c_lane, a_t[s], c_t[s])
                if ascent == UNIT:
                    for i in range(TILE):
                        r[i] = r[i] / (n[i] if n[i] > 0.0 else 1.0)
            if means or clipped:
                w[:] = 0.0
                m[:] = 0.0
                for j in range(dim):
                    pj, gj, bj, curvature = p[j], g[j], big[j], lam[j]
                    for i in range(TILE):
                        y = pj[i] + r[i] * gj[i]
                        bj[i] = curvature * y
                        w[i] += bj[i] * y / 2.0
                        m[i] += (bj[i] - gj[i]) * (bj[i] - gj[i])
            if means:
                _statistics(n, w, 0.0, squares, gaps, low)
            step = lr_t[s]
            if clipped:
                for i in range(TILE):
                    size = np.sqrt(m[i])
                    factor = clip * n[i] / (size if size > 0.0 else 1.0)
                    m[i] = factor if factor < 1.0 and size > 0.0 else 1.0
                for j in range(dim):
                    pj, gj, bj = p[j], g[j], big[j]
                    for i in range(TILE):
                        pj[i] -= lr_lane[i] * step * (gj[i] + m[i] * (bj[i] - gj[i]))
            else:
                for j in range(dim):
                    pj, gj, curvature = p[j], g[j], lam[j]
                    for i in range(TILE):
                        pj[i] -= lr_lane[i] * step * (curvature * (pj[i] + r[i] * gj[i]))
        x[:, o : o + TILE] = p
