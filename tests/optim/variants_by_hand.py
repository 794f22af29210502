"""Every variant, and compositions of every part, as NumPy has them: a case for each, made of `variant_rules.py`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

import sharpmin as sm
from sharpmin.optim import matrices

from .variant_rules import (
    INPUTS,
    RATES,
    START,
    STEPS,
    TARGETS,
    Run,
    X,
    above_usual,
    against_momentum,
    always,
    clipped,
    constant,
    ema,
    euclid,
    every,
    fisher,
    gradient,
    itself,
    layer_scale,
    matrix_scale,
    mixed,
    normal,
    only_x,
    perturbed,
    polar,
    previous,
    renormalized,
    residual,
    reuse,
    signs,
    stretched,
    surrogate_gap,
    through,
)

USUAL = constant(0.3)
EVERY = np.full(9, True)


@dataclass
class Case:
    """How to build it, and the rules; `one_pass` if the gradient at w + e is the only one."""

    build: Callable[[Any], sm.SAM]
    climb: Callable = euclid
    radius: Callable = USUAL
    descent: Callable = perturbed
    along: Callable = itself
    one_pass: bool = False
    opens: Callable = always


def composed(rho=0.3, **parts):
    return lambda base: sm.SAM(base, rho, **parts)


CASES = {
    "sam": Case(lambda b: sm.sam(b, 0.3)),
    "asam": Case(lambda b: sm.asam(b, 0.3, eta=0.05), stretched(lambda w: abs(w) + 0.05)),
    "asam-matrices": Case(lambda b: sm.asam(b, 0.3, eta=0.05, adapt=matrices), stretched(matrix_scale)),
    "usam": Case(lambda b: sm.usam(b, 0.05), radius=lambda lr, n, t: 0.05 * n),
    "capped-sam": Case(lambda b: sm.capped_sam(b, 0.3, c=0.05), radius=lambda lr, n, t: min(0.3, 0.05 * n)),
    "clipped-sam": Case(lambda b: sm.clipped_sam(b, 0.3, theta=0.2), descent=clipped(0.2)),
    "decayed-sam": Case(lambda b: sm.decayed_sam(b, 0.3), radius=lambda lr, n, t: 0.3 * (lr / RATES[0]) ** 0.5),
    "decayed-sam-lr": Case(lambda b: sm.decayed_sam(b, 0.3, lr=0.2), radius=lambda lr, n, t: 0.3 * (lr / 0.2) ** 0.5),
    "gsam": Case(lambda b: sm.gsam(b, 0.3, alpha=0.4), descent=surrogate_gap(0.4)),
    "gsam-follows-lr": Case(
        lambda b: sm.gsam(b, sm.rho.ProportionalToLR(0.3, lr=0.1), alpha=0.2),
        radius=lambda lr, n, t: 0.3 * lr / 0.1,
        descent=surrogate_gap(0.2),
    ),
    "looksam": Case(lambda b: sm.looksam(b, 0.3, k=3, alpha=0.5), radius=every(0.3, 3), descent=reuse(0.5)),
    "every-k-sam": Case(lambda b: sm.every_k_sam(b, 0.1, k=3), radius=every(0.3, 3)),
    "late-sam": Case(composed(sm.rho.Tail(0.3, start=15)), radius=lambda lr, n, t: 0.3 if t >= 15 else None),
    "ae-sam": Case(
        lambda b: sm.ae_sam(b, 0.3, total=STEPS, delta=0.7, first=0.2, last=-1.5), opens=above_usual(STEPS, 0.7, 0.2, -1.5)
    ),
    "ae-looksam": Case(
        composed(sm.rho.Gate(0.3, STEPS, 0.7, 0.2, -1.5), descent=sm.ReuseOrthogonal(0.5)),
        opens=above_usual(STEPS, 0.7, 0.2, -1.5),
        descent=reuse(0.5),
    ),
    "s2-sam": Case(lambda b: sm.s2_sam(b, 0.3), along=previous, one_pass=True),
    "momentum-sam": Case(lambda b: sm.momentum_sam(b, 0.3), along=against_momentum, one_pass=True),
    "friendly-sam": Case(lambda b: sm.friendly_sam(b, 0.3), along=residual(1.0, 0.9)),
    "friendly-sam-mild": Case(lambda b: sm.friendly_sam(b, 0.3, sigma=0.6, decay=0.5), along=residual(0.6, 0.5)),
    "vasso": Case(lambda b: sm.vasso(b, 0.3, theta=0.4), along=ema(0.4)),
    "stable-sam": Case(lambda b: sm.stable_sam(b, 0.3), descent=renormalized),
    "fisher-sam": Case(lambda b: sm.fisher_sam(b, 0.3, keep=0.4), fisher(0.4)),
    "random-sam": Case(lambda b: sm.random_sam(b, 0.3), along=normal, one_pass=True),
    "spectral-sam": Case(lambda b: sm.spectral_sam(b, 0.1), polar, constant(0.1)),
    "spectral-sam-newton-schulz": Case(lambda b: sm.spectral_sam(b, 0.1, method="newton-schulz"), polar, constant(0.1)),
    "looksam-asam": Case(
        composed(sm.rho.Every(0.3, 4), geometry=sm.Elementwise(0.05), descent=sm.ReuseOrthogonal(0.3)),
        stretched(lambda w: abs(w) + 0.05),
        every(0.3, 4),
        reuse(0.3),
    ),
    "ema": Case(composed(ascent=sm.Ema(0.3)), along=ema(0.3)),
    "momentum": Case(composed(ascent=sm.Momentum()), along=against_momentum, one_pass=True),
    "momentum-asam": Case(
        composed(ascent=sm.Momentum(), geometry=sm.Elementwise(0.05)),
        stretched(lambda w: abs(w) + 0.05),
        along=against_momentum,
        one_pass=True,
    ),
    "mix": Case(composed(descent=sm.Mix(0.4)), descent=mixed(0.4)),
    "mix-overshoot": Case(composed(descent=sm.Mix(1.7)), descent=mixed(1.7)),
    "linf": Case(composed(0.05, geometry=sm.LInf()), signs, constant(0.05)),
    "layerwise": Case(composed(geometry=sm.Layerwise()), stretched(layer_scale(0.0))),
    "layerwise-eta": Case(composed(geometry=sm.Layerwise(0.3)), stretched(layer_scale(0.3))),
    "masked": Case(composed(geometry=sm.Masked(lambda w: w.abs() > 0.3)), through(lambda w: abs(w) > 0.3, euclid)),
    "masked-bool": Case(composed(geometry=sm.Masked(matrices)), through(only_x, euclid)),
    "masked-linf": Case(composed(0.05, geometry=sm.Masked(matrices, sm.LInf())), through(only_x, signs), constant(0.05)),
    "linf-unnormalized": Case(composed(sm.rho.Unnormalized(0.01), geometry=sm.LInf()), signs, lambda lr, n, t: 0.01 * n),
    "everything": Case(
        composed(
            sm.rho.Capped(sm.rho.ProportionalToLR(0.3, lr=0.08), c=0.2),
            geometry=sm.Masked(matrices, sm.Elementwise(0.05)),
            ascent=sm.Ema(0.3),
            descent=sm.ClippedDifference(0.2),
        ),
        through(only_x, stretched(lambda w: abs(w) + 0.05)),
        lambda lr, n, t: min(0.3 * lr / 0.08, 0.2 * n),
        clipped(0.2),
        along=ema(0.3),
    ),
}
BASES = {
    "sgd": lambda ps: torch.optim.SGD(ps, lr=RATES[0]),
    "momentum": lambda ps: torch.optim.SGD(ps, lr=RATES[0], momentum=0.8, weight_decay=0.02),
    "adamw": lambda ps: torch.optim.AdamW(ps, lr=RATES[0], betas=(0.8, 0.95), eps=1e-7, weight_decay=0.1),
}
PAIRS = [(case, base) for case in CASES for base in BASES if base != "sgd" or "momentum" not in case]


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


def trace(case, base, climbs):
    """The weights after each step, its passes where nobody makes one in vain, and ||e||; `climbs` says which weights climb."""
    w, run, steps = START.copy(), Run(climbs, base), []
    for run.t, run.lr in enumerate(RATES):
        g, e, active = gradient(w), np.zeros(9), case.radius(run.lr, 1.0, run.t) is not None
        a = np.where(climbs, case.along(g, run), 0.0) if active else e
        if a.any():
            n, direction = case.climb(a, w, run)
            active = case.opens(n, run)
            e = case.radius(run.lr, n, run.t) * direction if active else e
        run.used = case.descent(g, gradient(w + e) if active else None, run)
        w, run.m, run.v = descend(base, w, run.used, run.lr, run.t, run.m, run.v)
        steps.append((w, 2 if active and not case.one_pass else 1, np.linalg.norm(e)))
    path, passes, lengths = zip(*steps, strict=True)
    return np.array(path), passes, lengths


def oracle(case, base, climbs):
    """The weights after each step."""
    return trace(case, base, climbs)[0]


class Loss:
    """The same function in torch."""

    def __init__(self):
        start = torch.tensor(START)
        self.x, self.y = nn.Parameter(start[X].reshape(2, 3).clone()), nn.Parameter(start[6:].clone())
        self.inputs, self.targets = torch.tensor(INPUTS), torch.tensor(TARGETS)
        self.calls = 0

    @property
    def weights(self):
        return torch.cat([self.x.reshape(-1), self.y])

    def value(self):
        r = self.inputs @ self.weights - self.targets
        return (0.5 * r**2 + torch.log(torch.cosh(r))).mean() + 0.05 * self.weights.square().sum() ** 2

    def __call__(self):
        self.calls += 1
        loss = self.value()
        loss.backward()
        return loss


def by_block(opt, f):
    opt.zero_grad()
    if opt.ascent.needs_clean:
        f()
    with opt.perturbed():
        f()
    opt.step()


def by_guarded_block(opt, f):
    opt.zero_grad()
    if opt.ascent.needs_clean:
        f()
    if opt.needs_second_pass:
        with opt.perturbed():
            f()
    opt.step()


def by_asking_block(opt, f):
    """The question inside the block, where a gate has decided by the first gradient."""
    opt.zero_grad()
    if opt.ascent.needs_clean:
        f()
    with opt.perturbed():
        if opt.needs_second_pass:
            f()
    opt.step()


def by_raw_phases(opt, f):
    opt.zero_grad()
    if opt.ascent.needs_clean:
        f()
    opt.perturb()
    f()
    opt.restore()
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
    return np.array(path), opt, f


def one_group(f):
    return [f.x, f.y]


def y_at_rest(f):
    return [{"params": [f.x]}, {"params": [f.y], "rho": 0.0}]
