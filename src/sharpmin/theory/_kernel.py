"""The compiled inner loops: lanes in tiles of 64, the lane loop innermost so that it becomes SIMD, steps outside it.

One function serves every 1-D hinge problem and every method; `_kernel_quadratic.py` has the diagonal quadratics. Both equal
the NumPy reference (`_reference.py`) up to rounding; the tests hold them to it. Draws are hashed inside the loop, with the same
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
ROUNDING = 8 * 2.0**-52  # a sum of hinges below this share of its terms is 0: rounding is all that is left of it


_OPTIONS: dict[str, Any] = {"fastmath": {"nsz", "contract"}, "nogil": True, "error_model": "numpy"}


def entry(function: Any) -> Any:
    """Compile a function that Python calls, with a cache on disk where there is a place for one."""
    if _njit is None:
        return function
    try:
        return _njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # typed into a REPL, or installed where nothing may be written
        return _njit(**_OPTIONS)(function)


def jit(function: Any) -> Any:
    """Compile a part of an entry: Python cannot call it, which saves a quarter of the compilation."""
    without: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return function if _njit is None else _njit(**_OPTIONS, **without)(function)


@jit
def _plus(v: float) -> float:
    """max(0, v)."""
    return v if v > 0.0 else 0.0


@jit
def flush(x: Any) -> None:
    """0 for what is about to become a denormal number, with which a processor is ten times slower."""
    for i in range(len(x)):
        x[i] = 0.0 if abs(x[i]) < 1e-280 else x[i]


@jit
def _derivative(x: Any, out: Any, a: float, b: float, t: Any, c: Any) -> None:
    """Out = a + b x + sum_k c_k max(0, x - t_k) over a tile; hinges come in pairs, unrolled."""
    t0, t1, c0, c1 = t[0], t[1], c[0], c[1]
    for i in range(TILE):
        out[i] = a + b * x[i] + c0 * _plus(x[i] - t0) + c1 * _plus(x[i] - t1)
    for k in range(2, len(t), 2):
        t0, t1, c0, c1 = t[k], t[k + 1], c[k], c[k + 1]
        for i in range(TILE):
            out[i] += c0 * _plus(x[i] - t0) + c1 * _plus(x[i] - t1)


@jit
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


@jit
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


@jit
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


@jit
def _of_many(x: Any, out: Any, other: Any, index: Any, a: Any, b: Any, t: Any, c: Any) -> None:
    """The derivative of the drawn sample: every sample's is computed, and kept where it was drawn."""
    _derivative(x, out, a[0], b[0], t, c[0])
    for k in range(1, len(a)):
        _derivative(x, other, a[k], b[k], t, c[k])
        for i in range(TILE):
            out[i] = other[i] if index[i] == k else out[i]


@jit
def _sampled(x: Any, out: Any, other: Any, index: Any, a: Any, b: Any, t: Any, c: Any) -> None:
    """The derivative of the drawn sample."""
    if len(a) == 2:
        _of_two(x, out, index, a, b, t, c)
    else:
        _of_many(x, out, other, index, a, b, t, c)


@jit
def radius_of(size: float, kind: int, fixed: float, slope: float) -> float:
    """a, c n or min(a, c n)."""
    if kind == FIXED:
        return fixed
    relative = slope * size
    if kind == RELATIVE:
        return relative
    return fixed if fixed < relative else relative


@jit
def _settle(x: Any, g: Any, size: Any, a: float, b: float, t: Any, c: Any) -> None:
    """Put 0 for a derivative that is rounding and nothing else; a, b, c bound the coefficients of every sample."""
    for i in range(TILE):
        size[i] = a + b * abs(x[i])
    for k in range(len(t)):
        tk, ck = t[k], c[k]
        for i in range(TILE):
            size[i] += ck * _plus(x[i] - tk)
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
    """x -= lr G over a tile; lr g where the radius is 0, since there is no second pass then."""
    for i in range(TILE):
        x[i] -= lr[i] * step * (g[i] if r[i] == 0.0 else big[i])


@jit
def _whole_step(x: Any, r: Any, lr: Any, r_t: float, lr_t: float, a: float, b: float, t: Any, c: Any) -> None:
    """One exact normalised step with one pair of hinges, in registers from start to end."""
    t0, t1, c0, c1 = t[0], t[1], c[0], c[1]
    for i in range(TILE):
        v, radius = x[i], r[i] * r_t
        g = a + b * v + c0 * _plus(v - t0) + c1 * _plus(v - t1)
        y = v + radius * (1.0 if g > 0.0 else (-1.0 if g < 0.0 else g))
        big = a + b * y + c0 * _plus(y - t0) + c1 * _plus(y - t1)
        x[i] = v - lr[i] * lr_t * (g if radius == 0.0 else big)


@jit
def _whole_step_of_two(
    x: Any, r: Any, lr: Any, r_t: float, lr_t: float, first: Any, second: Any, a: Any, b: Any, t: Any, c: Any
) -> None:
    """One normalised step with drawn samples, two of them with up to four hinges, in registers from start to end."""
    a0, a1, b0, b1 = a[0], a[1], b[0], b[1]
    t0, t1, t2, t3 = t[0], t[1], t[2], t[3]
    p0, p1, p2, p3, q0, q1, q2, q3 = c[0, 0], c[0, 1], c[0, 2], c[0, 3], c[1, 0], c[1, 1], c[1, 2], c[1, 3]
    for i in range(TILE):
        v, radius = x[i], r[i] * r_t
        h0, h1, h2, h3 = _plus(v - t0), _plus(v - t1), _plus(v - t2), _plus(v - t3)
        zero = a0 + b0 * v + p0 * h0 + p1 * h1 + p2 * h2 + p3 * h3
        one = a1 + b1 * v + q0 * h0 + q1 * h1 + q2 * h2 + q3 * h3
        g = one if first[i] == 1 else zero
        y = v + radius * (1.0 if g > 0.0 else (-1.0 if g < 0.0 else g))
        h0, h1, h2, h3 = _plus(y - t0), _plus(y - t1), _plus(y - t2), _plus(y - t3)
        zero = a0 + b0 * y + p0 * h0 + p1 * h1 + p2 * h2 + p3 * h3
        one = a1 + b1 * y + q0 * h0 + q1 * h1 + q2 * h2 + q3 * h3
        big = one if second[i] == 1 else zero
        x[i] = v - lr[i] * lr_t * (g if radius == 0.0 else big)


@jit
def statistics(u: Any, gap: Any, f_star: float, squares: Any, gaps: Any, low: Any) -> None:
    """Add u^2 and f(y) - f* to their sums, and keep the least u^2."""
    for i in range(TILE):
        square = u[i] * u[i]
        squares[i] += square
        gaps[i] += gap[i] - f_star
        low[i] = square if square < low[i] else low[i]


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
    derivative vanishes on a whole interval; sums (2, L) and least (L) the statistics.
    """
    oracle, ascent, radius, clipped, means, flat = modes
    ma, mb, mt, mc = mean
    la, lb, lt, lc = bounds
    plain = ascent == UNIT and radius == FIXED and not clipped and not means and not flat
    g, y, big, n, r, w = np.empty(TILE), np.empty(TILE), np.empty(TILE), np.empty(TILE), np.zeros(TILE), np.empty(TILE)
    key, first = np.empty(2 * TILE, np.uint64), np.zeros(TILE, np.int64)
    second = np.zeros(TILE, np.int64) if oracle == INDEPENDENT else first  # m-SAM: the same sample in both passes
    for o in range(0, len(x), TILE):
        p, lr_lane, a_lane, c_lane = x[o : o + TILE], lr[o : o + TILE], a_rho[o : o + TILE], c_rho[o : o + TILE]
        squares, gaps, low = sums[0, o : o + TILE], sums[1, o : o + TILE], least[o : o + TILE]
        for i in range(TILE):  # a slice assignment would compile for two seconds, for its error message
            key[i] = keys[o + i]
        for s in range(len(lr_t)):
            if s % TILE == 0:
                flush(p)
            if oracle != EXACT:
                _draw(key, start + s, 1, edges, first)
            if oracle == INDEPENDENT:
                _draw(key, start + s, 2, edges, second)
            if plain and oracle == EXACT and len(mt) == 2:
                _whole_step(p, a_lane, lr_lane, a_t[s], lr_t[s], ma, mb, mt, mc)
                continue
            if plain and oracle != EXACT and len(a) == 2 and len(t) == 4:
                _whole_step_of_two(p, a_lane, lr_lane, a_t[s], lr_t[s], first, second, a, b, t, c)
                continue
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
                    statistics(g, w, f_star, squares, gaps, low)
                else:
                    _derivative(p, n, ma, mb, mt, mc)
                    statistics(n, w, f_star, squares, gaps, low)
            if clipped and ascent != NONE:
                for i in range(TILE):
                    d = big[i] - g[i]
                    size = abs(d)
                    factor = clip * abs(g[i]) / (size if size > 0.0 else 1.0)
                    big[i] = g[i] + (factor if factor < 1.0 and size > 0.0 else 1.0) * d
            _descend(p, g, big, r, lr_lane, lr_t[s])
