"""Every variant, and compositions of every part, against the equations of its paper, written once more in NumPy."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import sharpmin as sm
from sharpmin.optim import matrices

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


def constant(rho):
    return lambda lr, n: rho


def euclid(a, w):
    return norm(a), a / norm(a)


def stretched(scale):
    def climb(a, w):
        t = scale(w)
        return norm(t * a), t**2 * a / norm(t * a)

    return climb


def signs(a, w):
    return float(abs(a).sum()), np.sign(a)


def through(mask, climb):
    return lambda a, w: climb(np.where(mask(w), a, 0.0), w)


def only_x(w):
    return np.arange(9) < 6


def matrix_scale(w):
    return np.where(only_x(w), abs(w) + 0.05, 1.0)


def layer_scale(eta):
    return lambda w: np.concatenate([np.full(w[s].shape, norm(w[s]) + eta) for s in LAYERS])


def perturbed(g, big):
    return big


def mixed(weight):
    return lambda g, big: (1 - weight) * g + weight * big


def clipped(theta):
    return lambda g, big: g + min(1.0, theta * norm(g) / norm(big - g)) * (big - g)


USUAL = constant(0.3)


@dataclass
class Case:
    """How to build it, and what it says: climb(a, w) = (dual norm, unit vector), the radius, the descent, the ascent."""

    build: Callable[[Any], sm.SAM]
    climb: Callable = euclid
    radius: Callable = USUAL
    descent: Callable = perturbed
    ema: float = 1.0
    momentum: bool = False


def composed(rho=0.3, **parts):
    return lambda base: sm.SAM(base, rho, **parts)


CASES = {
    "sam": Case(lambda b: sm.sam(b, 0.3)),
    "asam": Case(lambda b: sm.asam(b, 0.3, eta=0.05), stretched(lambda w: abs(w) + 0.05)),
    "asam-matrices": Case(lambda b: sm.asam(b, 0.3, eta=0.05, adapt=matrices), stretched(matrix_scale)),
    "usam": Case(lambda b: sm.usam(b, 0.05), radius=lambda lr, n: 0.05 * n),
    "capped-sam": Case(lambda b: sm.capped_sam(b, 0.3, c=0.05), radius=lambda lr, n: min(0.3, 0.05 * n)),
    "clipped-sam": Case(lambda b: sm.clipped_sam(b, 0.3, theta=0.2), descent=clipped(0.2)),
    "decayed-sam": Case(lambda b: sm.decayed_sam(b, 0.3), radius=lambda lr, n: 0.3 * (lr / RATES[0]) ** 0.5),
    "decayed-sam-lr": Case(lambda b: sm.decayed_sam(b, 0.3, lr=0.2), radius=lambda lr, n: 0.3 * (lr / 0.2) ** 0.5),
    "ema": Case(composed(ascent=sm.Ema(0.3)), ema=0.3),
    "momentum": Case(composed(ascent=sm.Momentum()), momentum=True),
    "momentum-asam": Case(
        composed(ascent=sm.Momentum(), geometry=sm.Elementwise(0.05)), stretched(lambda w: abs(w) + 0.05), momentum=True
    ),
    "mix": Case(composed(descent=sm.Mix(0.4)), descent=mixed(0.4)),
    "mix-overshoot": Case(composed(descent=sm.Mix(1.7)), descent=mixed(1.7)),
    "linf": Case(composed(0.05, geometry=sm.LInf()), signs, constant(0.05)),
    "layerwise": Case(composed(geometry=sm.Layerwise()), stretched(layer_scale(0.0))),
    "layerwise-eta": Case(composed(geometry=sm.Layerwise(0.3)), stretched(layer_scale(0.3))),
    "masked": Case(composed(geometry=sm.Masked(lambda w: w.abs() > 0.3)), through(lambda w: abs(w) > 0.3, euclid)),
    "masked-bool": Case(composed(geometry=sm.Masked(matrices)), through(only_x, euclid)),
    "masked-linf": Case(composed(0.05, geometry=sm.Masked(matrices, sm.LInf())), through(only_x, signs), constant(0.05)),
    "linf-unnormalized": Case(composed(sm.rho.Unnormalized(0.01), geometry=sm.LInf()), signs, lambda lr, n: 0.01 * n),
    "everything": Case(
        composed(
            sm.rho.Capped(sm.rho.ProportionalToLR(0.3, lr=0.08), c=0.2),
            geometry=sm.Masked(matrices, sm.Elementwise(0.05)),
            ascent=sm.Ema(0.3),
            descent=sm.ClippedDifference(0.2),
        ),
        through(only_x, stretched(lambda w: abs(w) + 0.05)),
        lambda lr, n: min(0.3 * lr / 0.08, 0.2 * n),
        clipped(0.2),
        ema=0.3,
    ),
}
BASES = {
    "sgd": lambda ps: torch.optim.SGD(ps, lr=RATES[0]),
    "momentum": lambda ps: torch.optim.SGD(ps, lr=RATES[0], momentum=0.8, weight_decay=0.02),
    "adamw": lambda ps: torch.optim.AdamW(ps, lr=RATES[0], betas=(0.8, 0.95), eps=1e-7, weight_decay=0.1),
}
PAIRS = [(case, base) for case in CASES for base in BASES if base != "sgd" or not CASES[case].momentum]


def descend(base, w, d, lr, t, m, v):
    """One step of the base optimizer; the new weights and its two averages."""
    if base == "sgd":
        return w - lr * d, m, v
    if base == "momentum":
        d = d + 0.02 * w
        m = d if t == 0 else 0.8 * m + d
        return w - lr * m, m, v
    w, m, v = w - lr * 0.1 * w, 0.8 * m + 0.2 * d, 0.95 * v + 0.05 * d * d
    return w - lr * (m / (1 - 0.8 ** (t + 1))) / (np.sqrt(v / (1 - 0.95 ** (t + 1))) + 1e-7), m, v


def oracle(case, base, climbs):
    """The weights after each step; `climbs` says which of them take part in the ascent."""
    w, a, m, v, path = START.copy(), np.zeros(9), np.zeros(9), np.zeros(9), []
    for t, lr in enumerate(RATES):
        g = gradient(w)
        a = -m if case.momentum else (1 - case.ema) * a + case.ema * g
        e = np.zeros(9)
        if a.any():
            n, direction = case.climb(np.where(climbs, a, 0.0), w)
            e = case.radius(lr, n) * direction
        d = case.descent(g, gradient(w + e))
        w, m, v = descend(base, w, d, lr, t, m, v)
        path.append(w)
    return np.array(path)


class Loss:
    """The same function in torch."""

    def __init__(self):
        start = torch.tensor(START)
        self.x, self.y = nn.Parameter(start[X].reshape(2, 3).clone()), nn.Parameter(start[6:].clone())
        self.inputs, self.targets = torch.tensor(INPUTS), torch.tensor(TARGETS)

    @property
    def weights(self):
        return torch.cat([self.x.reshape(-1), self.y])

    def __call__(self):
        r = self.inputs @ self.weights - self.targets
        loss = (0.5 * r**2 + torch.log(torch.cosh(r))).mean() + 0.05 * self.weights.square().sum() ** 2
        loss.backward()
        return loss


def by_block(opt, f):
    opt.zero_grad()
    if opt.ascent.needs_clean:
        f()
    with opt.perturbed():
        f()
    opt.step()


def by_closure(opt, f):
    def closure():
        opt.zero_grad()
        return f()

    opt.step(closure)


def run(case, base, door, groups):
    f, path = Loss(), []
    opt = case.build(BASES[base](groups(f)))
    for lr in RATES:
        for group in opt.param_groups:
            group["lr"] = lr
        door(opt, f)
        path.append(f.weights.detach().numpy())
    return np.array(path), opt


def one_group(f):
    return [f.x, f.y]


def y_at_rest(f):
    return [{"params": [f.x]}, {"params": [f.y], "rho": 0.0}]


@pytest.mark.parametrize("door", [by_block, by_closure])
@pytest.mark.parametrize(("name", "base"), PAIRS)
def test_twenty_steps(*, path, door, name, base):
    expected = oracle(CASES[name], base, np.full(9, True))
    weights, opt = run(CASES[name], base, door, one_group)
    assert np.abs(weights - expected).max() < 1e-10
    assert opt.last.passes == (1 if CASES[name].momentum else 2)


@pytest.mark.parametrize(("name", "base"), PAIRS)
def test_a_group_at_rest(path, name, base):
    """It stays at w in the ascent and is no part of the norm, but of the descent."""
    expected = oracle(CASES[name], base, only_x(START))
    weights, _ = run(CASES[name], base, by_block, y_at_rest)
    assert np.abs(weights - expected).max() < 1e-10


@pytest.mark.parametrize("name", CASES)
def test_the_cases_tell_themselves_apart_from_sam(name):
    """An oracle that would not notice the difference proves nothing: 1e-10 is far below what each part changes."""
    sam = oracle(CASES["sam"], "momentum", np.full(9, True))
    own = oracle(CASES[name], "momentum", np.full(9, True))
    assert bool(np.abs(own - sam).max() > 1e-4) == (name != "sam")


def test_every_variant_is_in_the_table():
    assert {name.replace("_", "-") for name in sm.variants()} <= set(CASES)


@pytest.mark.parametrize("name", sorted(sm.variants()))
def test_create_builds_what_the_function_builds(name):
    options = {"c": 0.1} if name == "capped_sam" else {}
    one, other = (
        build(torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1), **options)
        for build in (getattr(sm, name), lambda base, **options: sm.create(name, base, **options))
    )
    assert repr(one) == repr(other)
    assert (one.geometry, one.ascent, one.descent) == (other.geometry, other.ascent, other.descent)
