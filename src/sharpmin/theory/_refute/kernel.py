"""The steps of `population` as compiled loops, for functions with one sample: one lane after the other."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

from .._simulation.jit import entry, jit

with suppress(ModuleNotFoundError):  # without numba nothing is compiled
    import numpy as np

HINGES, CONES, QUADRATICS = 0, 1, 2
QUANTITIES = ("gap", "squared-distance", "squared-gradient", "least-squared-gradient", "perturbed-gap", "mean-gap")
ROUNDING = 8 * 2.0**-52  # the threshold of `Hinge`


@jit
def hinge_slope(row: Any, x: float) -> float:
    """a + b x + sum_k c_k max(0, x - t_k); row = a, b, f*, t_1, c_1, t_2, ...."""
    total, size = row[0] + row[1] * x, abs(row[0]) + abs(row[1] * x)
    for k in range(3, len(row), 2):
        term = row[k + 1] * max(0.0, x - row[k])
        total += term
        size += abs(term)
    return 0.0 if abs(total) < ROUNDING * size else float(total)


@jit
def hinge_gap(row: Any, x: float) -> float:
    """f(x) - f*."""
    total = row[0] * x + row[1] * x * x / 2
    for k in range(3, len(row), 2):
        total += row[k + 1] * max(0.0, x - row[k]) ** 2 / 2
    return float(total - row[2])


@jit
def cone_slope(row: Any, x: Any, g: Any) -> float:
    """Writes the gradient to g; returns f. row = mu, pull, then weight, direction (cos, sin), half angle (cos, sin), depth."""
    g[0], g[1] = row[0] * x[0], row[0] * x[1]
    f = row[0] * (x[0] * x[0] + x[1] * x[1]) / 2
    for k in range(2, len(row), 6):
        weight, ca, sa, ch, sh, depth = row[1] * row[k], row[k + 1], row[k + 2], row[k + 3], row[k + 4], row[k + 5]
        z1, z2 = x[0] + depth * ca, x[1] + depth * sa
        along, across = z1 * ca + z2 * sa, z2 * ca - z1 * sa
        far = abs(across)
        out = far * ch - along * sh
        if out <= 0 <= along:
            continue
        if along * ch + far * sh > 0:  # the nearest point is on an edge, else it is the apex
            u, v = -out * sh, math.copysign(out * ch, across)
            z1, z2 = u * ca - v * sa, u * sa + v * ca
        g[0] += weight * z1
        g[1] += weight * z2
        f += weight * (z1 * z1 + z2 * z2) / 2
    return float(f)


@jit
def slope(kind: int, row: Any, x: Any, g: Any) -> float:
    """Writes the gradient into g; returns f - f*."""
    if kind == HINGES:
        g[0] = hinge_slope(row, x[0])
        return float(hinge_gap(row, x[0]))
    if kind == CONES:
        return float(cone_slope(row, x, g))
    f = 0.0
    for k in range(len(x)):
        g[k] = row[k] * x[k]
        f += g[k] * x[k] / 2
    return f


@jit
def norm(v: Any) -> float:
    """The Euclidean norm."""
    total = 0.0
    for value in v:
        total += value * value
    return math.sqrt(total)


@jit
def descend(x: Any, g: Any, big: Any, lr: float, theta: float, size: float) -> None:
    """The step x - lr d, in place, with the clipped difference if theta >= 0."""
    factor = 1.0
    if theta >= 0:
        apart = 0.0
        for k in range(len(x)):
            apart += (big[k] - g[k]) ** 2
        if apart > 0:
            factor = min(1.0, theta * size / math.sqrt(apart))
    for k in range(len(x)):
        x[k] -= lr * (g[k] + factor * (big[k] - g[k]) if theta >= 0 else big[k])


@jit
def apart(x: Any, minimizer: Any) -> float:
    """||x - x*||^2."""
    total = 0.0
    for k in range(len(x)):
        total += (x[k] - minimizer[k]) ** 2
    return total


@entry
def walk(
    kind: int, rows: Any, x0: Any, minimizer: Any, lr: Any, radii: Any, caps: Any, raw: bool, clip: Any, steps: Any,
    quantity: int,
) -> Any:  # fmt: skip
    """One of `QUANTITIES` for every lane.

    Args:
        kind: the kind of the functions, as a number.
        rows: the parameters of each function, shape (lanes, numbers).
        x0: shape (lanes, dim).
        minimizer: shape (lanes, dim).
        lr: shape (horizon, lanes).
        radii: shape (horizon, lanes).
        caps: the radius is at most caps times ||g||; shape (lanes,).
        raw: whether the radii are multiplied by ||g||.
        clip: theta, or -1 for no clipping; shape (lanes,).
        steps: T; shape (lanes,).
        quantity: the index of the quantity in `QUANTITIES`.
    """
    out = np.zeros(len(x0))
    for i in range(len(x0)):
        row, x, g, big, y = rows[i], x0[i].copy(), np.zeros(x0.shape[1]), np.zeros(x0.shape[1]), np.zeros(x0.shape[1])
        total, least = 0.0, np.inf
        for t in range(steps[i]):
            here = slope(kind, row, x, g)
            size = norm(g)
            total += here if quantity == 5 else size * size if quantity != 4 else 0.0
            least = min(least, size * size)
            radius = radii[t, i] if raw else min(radii[t, i], caps[i] * size)
            if radius == 0.0 or size == 0.0:
                if quantity == 4:
                    total += slope(kind, row, x, g)
                descend(x, g, g, lr[t, i], -1.0, size)
                continue
            scale = radius if raw else radius / size
            for k in range(len(x)):
                y[k] = x[k] + scale * g[k]
            f = slope(kind, row, y, big)
            total += f if quantity == 4 else 0.0
            descend(x, g, big, lr[t, i], clip[i], size)
        out[i] = least if quantity == 3 else total / steps[i]
        if quantity == 0:
            out[i] = slope(kind, row, x, g)
        if quantity == 1:
            out[i] = apart(x, minimizer[i])
    return out
