"""Shared parts of the compiled loops: decorators that compile, the names of modes, and common functions."""

from __future__ import annotations

from typing import Any

try:
    import numpy as np
    from numba import njit as _njit
except ModuleNotFoundError:  # then only the reference engine runs
    _njit = None

AVAILABLE = _njit is not None
TILE = 64
EXACT, SAME, INDEPENDENT = 0, 1, 2  # the oracle
NONE, UNIT, RAW = 0, 1, 2  # the ascent
FIXED, RELATIVE, CAPPED = 0, 1, 2  # the radius: a, c n, min(a, c n)


_OPTIONS: dict[str, Any] = {"fastmath": {"nsz", "contract"}, "nogil": True, "error_model": "numpy"}


def entry(function: Any) -> Any:
    """Compile a function that Python calls, with a cache on disk if possible."""
    if _njit is None:
        return function
    try:
        return _njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # typed into a REPL, or installed where nothing may be written
        return _njit(**_OPTIONS)(function)


def jit(function: Any) -> Any:
    """Compile a function that only other compiled ones call, which saves a quarter of the compilation time."""
    without: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return function if _njit is None else _njit(**_OPTIONS, **without)(function)


@jit
def plus(v: float) -> float:
    """max(0, v)."""
    return v if v > 0.0 else 0.0


@jit
def least_of(low: float, square: float) -> float:
    """min(low, square) for numbers >= 0; `low` if `square` is nan, in a lane that has diverged.

    `abs` changes nothing, but without it `low[i] = least_of(low[i], square)` would become a masked store, which is slow.
    """
    low = abs(low)
    return square if square < low else low


@jit
def flush(x: Any) -> None:
    """x, or 0 if x is nearly denormal, since arithmetic with denormal numbers is ten times slower."""
    for i in range(len(x)):
        size = abs(x[i])
        x[i] = np.copysign(0.0 if size < 1e-280 else size, x[i])


def drawing(slot: int) -> Any:
    """A function that draws the sample of every lane into row `slot`: `oracle.uniforms` and the sample's part of [0, 1).

    Row 0 of `draws` has the keys of the lanes, row 3 is for scratch.
    """

    def draw(draws: Any, step: int, edges: Any) -> None:
        golden, one = np.uint64(0x9E3779B97F4A7C15), np.uint64(1)
        m1, m2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
        s30, s27, s31, s11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)
        by_step, by_slot = (np.uint64(step) + one) * golden, np.uint64(slot) * golden
        first = edges[0]
        for i in range(TILE):
            z = np.uint64(draws[i]) + by_step
            z = (z ^ (z >> s30)) * m1
            z = (z ^ (z >> s27)) * m2
            z = (z ^ (z >> s31)) + by_slot
            z = (z ^ (z >> s30)) * m1
            z = (z ^ (z >> s27)) * m2
            z = (z ^ (z >> s31)) >> s11
            draws[i + slot * TILE] = 1 if np.int64(z) >= first else 0
            draws[i + 3 * TILE] = np.int64(z)
        for k in range(1, len(edges)):
            edge = edges[k]
            for i in range(TILE):
                draws[i + slot * TILE] += 1 if draws[i + 3 * TILE] >= edge else 0

    return jit(draw)


draw_first, draw_second = drawing(1), drawing(2)


@jit
def radius_of(size: float, kind: int, fixed: float, slope: float) -> float:
    """a, c n or min(a, c n)."""
    if kind == FIXED:
        return fixed
    relative = slope * size
    if kind == RELATIVE:
        return relative
    return fixed if fixed < relative else relative
