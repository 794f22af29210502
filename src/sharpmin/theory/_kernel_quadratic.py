"""The compiled inner loop of exact steps on diagonal quadratics; see `_kernel.py`."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from ._jit import NONE, TILE, UNIT, entry, flush, jit, radius_of
from ._kernel import _statistics as statistics

with suppress(ModuleNotFoundError):  # nothing is compiled then
    import numpy as np


@jit
def _squared_norm(x: Any, lam: Any, out: Any) -> None:
    """Out = sum_j (lam_j x_j)^2 over a tile."""
    for i in range(TILE):
        out[i] = 0.0
    for j in range(len(lam)):
        curvature = lam[j]
        for i in range(TILE):
            g = curvature * x[j, i]
            out[i] += g * g


@jit
def _stretch(n: Any, r: Any, ascent: int, kind: int, a: Any, c: Any, a_t: float, c_t: float) -> None:
    """What multiplies the gradient in the perturbation; n is the squared norm and becomes the norm."""
    for i in range(TILE):
        n[i] = np.sqrt(n[i])
        radius = radius_of(n[i], kind, a[i] * a_t, c[i] * c_t)
        r[i] = radius / (n[i] if n[i] > 0.0 else 1.0) if ascent == UNIT else radius


@jit
def _perturbed_value(x: Any, lam: Any, r: Any, gap: Any, change: Any) -> None:
    """f(y) and ||G - g||^2 over a tile."""
    for i in range(TILE):
        gap[i], change[i] = 0.0, 0.0
    for j in range(len(lam)):
        curvature = lam[j]
        for i in range(TILE):
            g = curvature * x[j, i]
            y = x[j, i] + r[i] * g
            d = curvature * y - g
            gap[i] += curvature * y * y / 2.0
            change[i] += d * d


@jit
def _quadratic_descend(x: Any, lam: Any, r: Any, keep: Any, lr: Any, step: float) -> None:
    """x_j -= lr (g + keep (G - g)) over a tile."""
    for j in range(len(lam)):
        curvature = lam[j]
        for i in range(TILE):
            g = curvature * x[j, i]
            x[j, i] -= lr[i] * step * (g + keep[i] * (curvature * r[i] * g))


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
    """`len(lr_t)` exact steps on sum_j lam_j x_j^2/2, in place; x has shape (dim, L), everything else as in `hinge_steps`."""
    _, ascent, kind, clipped, means = modes
    p = np.empty((len(lam), TILE))
    n, m, r, w, keep = np.empty(TILE), np.empty(TILE), np.zeros(TILE), np.empty(TILE), np.ones(TILE)
    for o in range(0, x.shape[1], TILE):
        lr_lane, a_lane, c_lane = lr[o : o + TILE], a_rho[o : o + TILE], c_rho[o : o + TILE]
        squares, gaps, low = sums[0, o : o + TILE], sums[1, o : o + TILE], least[o : o + TILE]
        for j in range(len(lam)):
            for i in range(TILE):
                p[j, i] = x[j, o + i]
        for s in range(len(lr_t)):
            if s % TILE == 0:
                for j in range(len(lam)):
                    flush(p[j])
            if ascent != NONE or means:
                _squared_norm(p, lam, n)
            if ascent != NONE:
                _stretch(n, r, ascent, kind, a_lane, c_lane, a_t[s], c_t[s])
            elif means:
                for i in range(TILE):
                    n[i] = np.sqrt(n[i])
            if means or clipped:
                _perturbed_value(p, lam, r, w, m)
            if means:
                statistics(n, w, 0.0, squares, gaps, low)
            if clipped and ascent != NONE:
                for i in range(TILE):
                    size = np.sqrt(m[i])
                    factor = clip * n[i] / (size if size > 0.0 else 1.0)
                    keep[i] = factor if factor < 1.0 and size > 0.0 else 1.0
            _quadratic_descend(p, lam, r, keep, lr_lane, lr_t[s])
        for j in range(len(lam)):
            for i in range(TILE):
                x[j, o + i] = p[j, i]
