"""Bases, norms, ascents, descents and radii by hand: NumPy in float64, a list of arrays for a list of tensors."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .norms import Arrays, dot, norm

THETA, SIGMA, DECAY, MIX, CLIP, ALPHA, CAP, UNNORMALIZED = 0.4, 0.6, 0.5, 0.4, 0.3, 0.4, 0.05, 0.1
EVERY, TAIL, UNTIL, COSINE, LR = 2, 2, 4, 5, 0.05

BASES: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("SGD", {"weight_decay": 0.05}),
    "plain": ("SGD", {}),
    "heavy": ("SGD", {"momentum": 0.8, "dampening": 0.1, "weight_decay": 0.02}),
    "nesterov": ("SGD", {"momentum": 0.8, "nesterov": True}),
    "adam": ("Adam", {"betas": (0.8, 0.95), "weight_decay": 0.02}),
    "amsgrad": ("Adam", {"betas": (0.6, 0.7), "amsgrad": True}),
    "adamw": ("AdamW", {"betas": (0.8, 0.95), "weight_decay": 0.1}),
    "rmsprop": ("RMSprop", {"alpha": 0.9, "centered": True, "weight_decay": 0.02}),
    "rmsprop-momentum": ("RMSprop", {"alpha": 0.9, "momentum": 0.5}),
    "adagrad": ("Adagrad", {"lr_decay": 0.05, "weight_decay": 0.02}),
    "plain-adagrad": ("Adagrad", {"lr_decay": 0.0}),
    "nadam": ("NAdam", {"betas": (0.8, 0.95), "weight_decay": 0.02}),
}


@dataclass
class Kept:
    """What a base keeps of one parameter."""

    t: int = 0
    m: np.ndarray | None = None  # momentum_buffer or exp_avg
    v: Any = 0.0
    a: Any = 0.0  # the largest v, or the mean of g
    product: float = 1.0


def sgd(w: np.ndarray, g: np.ndarray, lr: float, k: Kept, o: dict[str, Any]) -> np.ndarray:
    momentum = o.get("momentum", 0.0)
    if momentum:
        k.m = g.copy() if k.m is None else momentum * k.m + (1 - o.get("dampening", 0.0)) * g
        g = g + momentum * k.m if o.get("nesterov") else k.m
    return w - lr * g


def adam(w: np.ndarray, g: np.ndarray, lr: float, k: Kept, o: dict[str, Any]) -> np.ndarray:
    b, c = o["betas"]
    k.m = (1 - b) * g + (0.0 if k.m is None else b * k.m)
    k.v = c * k.v + (1 - c) * g * g
    k.a = np.maximum(k.a, k.v)
    size = np.sqrt((k.a if o.get("amsgrad") else k.v) / (1 - c**k.t)) + o["eps"]
    return w - lr * k.m / (1 - b**k.t) / size


def rmsprop(w: np.ndarray, g: np.ndarray, lr: float, k: Kept, o: dict[str, Any]) -> np.ndarray:
    k.v = o["alpha"] * k.v + (1 - o["alpha"]) * g * g
    k.a = o["alpha"] * k.a + (1 - o["alpha"]) * g
    d = g / (np.sqrt(k.v - k.a**2 if o.get("centered") else k.v) + o["eps"])
    if o.get("momentum"):
        d = k.m = d + (0.0 if k.m is None else o["momentum"] * k.m)
    return w - lr * d


def adagrad(w: np.ndarray, g: np.ndarray, lr: float, k: Kept, o: dict[str, Any]) -> np.ndarray:
    k.v = k.v + g * g
    return w - lr / (1 + (k.t - 1) * o["lr_decay"]) * g / (np.sqrt(k.v) + o["eps"])


def nadam(w: np.ndarray, g: np.ndarray, lr: float, k: Kept, o: dict[str, Any]) -> np.ndarray:
    b, c = o["betas"]
    now, ahead = (b * (1 - 0.5 * 0.96 ** (t * 0.004)) for t in (k.t, k.t + 1))
    k.product = float(np.float32(k.product) * np.float32(now))  # torch keeps it so
    k.m = (1 - b) * g + (0.0 if k.m is None else b * k.m)
    k.v = c * k.v + (1 - c) * g * g
    size = np.sqrt(k.v / (1 - c**k.t)) + o["eps"]
    return w - lr * (1 - now) / (1 - k.product) * g / size - lr * ahead / (1 - k.product * ahead) * k.m / size


NAMES = {  # what the bases call it
    "SGD": {"momentum_buffer": "m"},
    "Adam": {"step": "t", "exp_avg": "m", "exp_avg_sq": "v"},
    "AdamW": {"step": "t", "exp_avg": "m", "exp_avg_sq": "v"},
    "RMSprop": {"step": "t", "square_avg": "v"},
    "Adagrad": {"step": "t", "sum": "v"},
    "NAdam": {"step": "t", "exp_avg": "m", "exp_avg_sq": "v", "mu_product": "product"},
}
ALSO = {"amsgrad": {"max_exp_avg_sq": "a"}, "centered": {"grad_avg": "a"}, "momentum": {"momentum_buffer": "m"}}


def remembered(base: str, k: Kept) -> dict[str, Any]:
    """The state of the base for one parameter; nothing before its first step."""
    kind, o = BASES[base]
    names = NAMES[kind] | {key: value for name, more in ALSO.items() if o.get(name) for key, value in more.items()}
    found = {name: getattr(k, own) for name, own in names.items()}
    return {name: value for name, value in found.items() if value is not None} if k.t else {}


RULES = {"SGD": sgd, "Adam": adam, "AdamW": adam, "RMSprop": rmsprop, "Adagrad": adagrad, "NAdam": nadam}


def options(base: str, dtype: str) -> dict[str, Any]:
    """The keywords of a base; in few digits nothing is divided by small numbers."""
    kind, own = BASES[base]
    return own if kind == "SGD" else {**own, "eps": 1e-8 if dtype == "float64" else 1e-3}


def stepped(base: str, w: np.ndarray, g: np.ndarray, lr: float, k: Kept, o: dict[str, Any]) -> np.ndarray:
    """w after a step of the base with the gradient g; complex numbers are two real ones."""
    if np.iscomplexobj(w):
        return stepped(base, w.view(np.float64), np.ascontiguousarray(g).view(np.float64), lr, k, o).view(np.complex128)
    kind, decay = BASES[base][0], o.get("weight_decay", 0.0)
    k.t += 1
    if kind == "AdamW":
        w = w - lr * decay * w
    else:
        g = g + decay * w
    return RULES[kind](w, g, lr, k, o)


def radius(kind: str, size: float, step: int, lr: float, n: float) -> float:
    """rho_t; `n` is the dual norm."""
    found = {
        "zero": 0.0,
        "cosine": size * (1 + math.cos(math.pi * step / COSINE)) / 2 if step < COSINE else 0.0,
        "inverse-sqrt": size / math.sqrt(step + 1),
        "every": size if step % EVERY == 0 else 0.0,
        "tail": size if step >= TAIL else 0.0,
        "until": size if step < UNTIL else 0.0,
        "follows-lr": size * (lr / LR) ** 0.5,
        "unnormalized": UNNORMALIZED * n,
        "capped": min(size, CAP * n),
    }
    return found.get(kind, size)


@dataclass
class Memory:
    """What ascent and descent remember, by the number of the parameter."""

    means: dict[int, np.ndarray] = field(default_factory=dict)
    kept: dict[int, np.ndarray] = field(default_factory=dict)


def ascend(ascent: str, i: int, g: np.ndarray, means: dict[int, np.ndarray]) -> np.ndarray:
    """The vector to climb along from a gradient; `means` is brought up to date."""
    if ascent == "gradient":
        return g
    share = THETA if ascent == "ema" else 1 - DECAY
    means[i] = (1 - share) * means.get(i, 0.0) + share * g
    return means[i] if ascent == "ema" else g - SIGMA * means[i]


def combined(descent: str, g: Arrays, big: Arrays) -> Arrays:
    """d from the gradients at w and at w + e."""
    pairs = list(zip(g, big, strict=True))
    change = [y - x for x, y in pairs]
    if descent == "mix":
        return [(1 - MIX) * x + MIX * y for x, y in pairs]
    if descent == "clipped":
        share = min(1.0, CLIP * norm(g) / norm(change)) if norm(change) else 1.0
        return [x + share * c for x, c in zip(g, change, strict=True)]
    if descent == "surrogate-gap":
        along = dot(g, big) / dot(big, big)
        return [y - ALPHA * (x - along * y) for x, y in pairs]
    return [norm(g) / norm(big) * y for y in big] if descent == "renormalized" else big
