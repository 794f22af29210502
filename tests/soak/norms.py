"""Norms by hand: ||a||_*, and the unit vector v with <a, v> = ||a||_*, in NumPy."""

import math

import numpy as np

ETA, KEEP = 0.1, 0.5
Arrays = list[np.ndarray]


def dot(x: Arrays, y: Arrays) -> float:
    return float(sum((a.conj() * b).real.sum() for a, b in zip(x, y, strict=True)))


def norm(x: Arrays) -> float:
    return math.sqrt(dot(x, x))


def scales(geometry: str, w: Arrays) -> Arrays:
    """T of each tensor, in v = T^2 a / ||T a||."""
    if geometry == "elementwise":
        return [abs(x) + ETA for x in w]
    if geometry == "elementwise-matrices":
        return [abs(x) + ETA if x.ndim > 1 else np.ones_like(x) for x in w]
    if geometry == "layerwise":
        return [np.full_like(x, norm([x]) + ETA) for x in w]
    if geometry == "masked":
        return [1.0 * (abs(x) > 0.25) for x in w]
    return [np.ones_like(x) for x in w]


def polar(x: np.ndarray) -> tuple[float, np.ndarray, float]:
    """The sum of the singular values, U V^T, and the smallest of the values over the largest; a vector is one column."""
    if not x.any():
        return 0.0, np.zeros_like(x), 1.0
    u, s, v = np.linalg.svd(x.reshape(x.shape[0], -1) if x.ndim > 1 else x.reshape(-1, 1), full_matrices=False)
    return float(s.sum()), (u @ v).reshape(x.shape), float(s[-1] / s[0])


def fisher_masks(roots: Arrays) -> tuple[Arrays, float]:
    """1 on the share of all entries with the largest roots, the first of equal ones; and how clear the cut is."""
    line = np.concatenate([root.reshape(-1) for root in roots])
    order, count = np.argsort(-line, kind="stable"), max(1, round(KEEP * line.size))
    mask = np.zeros(line.size)
    mask[order[:count]] = 1.0
    inside, outside = (line[order[i]] if i < line.size else 0.0 for i in (count - 1, count))
    splits = np.split(mask, np.cumsum([root.size for root in roots])[:-1])
    gap = (inside - outside) / inside if line.size and inside else 1.0
    return [part.reshape(root.shape) for part, root in zip(splits, roots, strict=True)], float(gap)


def steepest(geometry: str, w: Arrays, a: Arrays) -> tuple[float, Arrays]:
    """||a||_* and v."""
    if geometry.startswith("spectral"):
        found = [polar(x) for x in a]
        return sum(total for total, _, _ in found), [v for _, v, _ in found]
    if geometry in ("linf", "masked-linf"):
        a = [x if geometry == "linf" or x.ndim > 1 else 0.0 * x for x in a]
        return float(sum(abs(x).sum() for x in a)), [x / np.where(abs(x) > 0, abs(x), 1.0) for x in a]
    t = scales(geometry, w)
    n = norm([s * x for s, x in zip(t, a, strict=True)])
    return n, [s * s * x / n if n else x for s, x in zip(t, a, strict=True)]
