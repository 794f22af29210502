"""The rules that variants are made of, in NumPy, from the equations of their papers, and the loss that they are tried on."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

STEPS = 20
RATES = [0.08 * 0.9**t for t in range(STEPS)]
X = slice(0, 6)  # a 2 x 3 matrix; the rest is a vector of 3
LAYERS = [X, slice(6, 9)]

_random = np.random.default_rng(11)
INPUTS, TARGETS = _random.normal(size=(12, 9)), _random.normal(size=12)
START = _random.normal(size=9)


def gradient(w):
    """Of the mean of 0.5 r^2 + log cosh r with r = inputs w - targets, plus 0.5 |w|^4 / 10."""
    r = INPUTS @ w - TARGETS
    return INPUTS.T @ (r + np.tanh(r)) / len(r) + 0.2 * (w @ w) * w


def norm(v):
    return float(np.sqrt((v * v).sum()))


@dataclass
class Run:
    """What a rule may look at: the step, which weights climb, the averages of the base, the gradient that the last step used,
    and what the rules themselves keep."""

    climbs: Any
    base: str
    t: int = 0
    lr: float = 0.0
    m: Any = field(default_factory=lambda: np.zeros(9))
    v: Any = field(default_factory=lambda: np.zeros(9))
    used: Any = field(default_factory=lambda: np.zeros(9))
    kept: Any = field(default_factory=lambda: np.zeros(9))
    mean: float = 0.0
    variance: float = 0.0


# ascents


def itself(g, run):
    return g


def ema(theta):
    def along(g, run):
        run.kept = (1 - theta) * run.kept + theta * g
        return run.kept

    return along


def residual(sigma, decay):
    def along(g, run):
        run.kept = decay * run.kept + (1 - decay) * g
        return g - sigma * run.kept

    return along


def against_momentum(g, run):
    return -run.m


def previous(g, run):
    return run.used


def normal(g, run):
    """The draw of this step by hand: tensors in their order, those that climb."""
    draw = torch.Generator().manual_seed((run.t << 32) + 0x5A3D)
    parts = [torch.randn(shape, generator=draw, dtype=torch.float64) for shape in ((2, 3), (3,))]
    return torch.cat([part.reshape(-1) for part in parts]).numpy()


# geometries: the dual norm and the unit vector


def euclid(a, w, run):
    return norm(a), a / norm(a)


def stretched(scale):
    def climb(a, w, run):
        t = scale(w)
        return norm(t * a), t**2 * a / norm(t * a)

    return climb


def signs(a, w, run):
    return float(abs(a).sum()), np.sign(a)


def through(mask, climb):
    return lambda a, w, run: climb(np.where(mask(w), a, 0.0), w, run)


def fisher(keep):
    """The largest entries of the second moment, or of a^2 where the base has none, among the weights that climb."""

    def climb(a, w, run):
        information = run.v if run.base == "adamw" and run.t else a * a
        order = np.argsort(-np.where(run.climbs, information, -1.0), kind="stable")
        mask = np.isin(np.arange(9), order[: max(1, round(keep * run.climbs.sum()))])
        return euclid(np.where(mask, a, 0.0), w, run)

    return climb


def polar(a, w, run):
    total, v = 0.0, np.zeros(9)
    for part, shape in zip(LAYERS, ((2, 3), (3, 1)), strict=True):
        if a[part].any():
            left, s, right = np.linalg.svd(a[part].reshape(shape), full_matrices=False)
            total, v[part] = total + s.sum(), (left @ right).reshape(-1)
    return total, v


def only_x(w):
    return np.arange(9) < 6


def matrix_scale(w):
    return np.where(only_x(w), abs(w) + 0.05, 1.0)


def layer_scale(eta):
    return lambda w: np.concatenate([np.full(w[s].shape, norm(w[s]) + eta) for s in LAYERS])


# radii, by learning rate, dual norm and step; None where no group climbs


def constant(rho):
    return lambda lr, n, t: rho


def every(rho, k):
    return lambda lr, n, t: None if t % k else rho


# gates: whether the step climbs, once the dual norm n is known


def always(n, run):
    return True


def above_usual(total, delta, first=1.0, last=-1.0):
    """AE-SAM: n^2 against mean + c deviations, both of them with this step in it."""

    def opens(n, run):
        run.mean = delta * run.mean + (1 - delta) * n**2
        run.variance = delta * run.variance + (1 - delta) * (n**2 - run.mean) ** 2
        c = run.t / total * last + (1 - run.t / total) * first
        return n**2 >= run.mean + c * run.variance**0.5

    return opens


# descents; without a second gradient `big` is None


def perturbed(g, big, run):
    return g if big is None else big


def mixed(weight):
    return lambda g, big, run: (1 - weight) * g + weight * big


def clipped(theta):
    return lambda g, big, run: g + min(1.0, theta * norm(g) / norm(big - g)) * (big - g)


def surrogate_gap(alpha):
    return lambda g, big, run: big - alpha * (g - (g @ big) / (big @ big) * big)


def renormalized(g, big, run):
    return norm(g) / norm(big) * big


def reuse(alpha):
    def descend(g, big, run):
        if big is None:
            return g + alpha * norm(g) / norm(run.kept) * run.kept
        run.kept = big - (big @ g) / (g @ g) * g
        return big

    return descend
