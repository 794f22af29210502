"""Logs of watched runs whose verdict is known: small SAM runs, really run, and made-up blocks in place of a network."""

import torch
from torch import nn

import sharpmin as sm
from sharpmin.diagnostics import JsonLines
from sharpmin.diagnostics._run.rows import encode

from .once import once


def run(path, value, slope, start, *, rho, noise=0.0, lr=0.1, warm=0, steps=1000, block=50, drop=None, **options):
    """SAM on a function with noisy gradients, watched after `warm` steps; at step `drop` the learning rate is halved."""
    w = nn.Parameter(torch.tensor(start, dtype=torch.float64))
    rng = torch.Generator().manual_seed(0)
    opt = sm.SAM(torch.optim.SGD([w], lr=lr), rho=rho)

    def closure():
        w.grad = slope(w.detach()) + xi
        return value(w.detach())

    probe = None
    for t in range(warm + steps):
        if t == warm:
            probe = sm.watch(opt, to=path, every=2, block=block, **options)
        if t - warm == drop:
            opt.param_groups[0]["lr"] /= 2
        xi = noise * torch.randn(w.shape, generator=rng, dtype=torch.float64)
        opt.step(closure)
    probe.close()
    return path


def steps_of(opt, loss, count):
    """Steps by closure."""
    for _ in range(count):

        def closure():
            opt.zero_grad()
            value = loss()
            value.backward()
            return value

        opt.step(closure)


def quadratic(path, *, h=(0.5, 1.0), start=1.0, shift=0.0, **options):
    """0.5 w'Hw + shift."""
    curvature = torch.tensor(h, dtype=torch.float64)
    return run(path, lambda x: 0.5 * (curvature * x * x).sum() + shift, lambda x: curvature * x, [start] * len(h), **options)


def blocks(path, *, g=0.01, d=-0.006, loss=1.5, count=20):
    """Made-up blocks of 50 steps: independent noise around the means g and d of every entry of the sketch."""
    rng = torch.Generator().manual_seed(0)
    write = JsonLines(path)
    write({"kind": "run", "version": 1, "momentum": 0.9, "adaptive": False, "epoch": 50, "reshuffled": True})
    base = {"gg": 0.5, "dg": 0.05, "dd": 0.2, "norm_g": 0.7, "norm_d": 0.45, "curvature": 0.4, "bounce": 0.02, "lag": 0.1}
    for b in range(count):
        own = {} if loss is None else {"loss": loss + (0.1 * (count - b) / count if b else 1.0)}
        for t in range(50 * b, 50 * b + 50):
            write({"kind": "step", "step": t, "rho": 0.2, "lr": 0.01, "gg": 0.5, "dg": 0.05, "dd": 0.2, **own})
        noise = 0.01 * torch.randn(2, 256, generator=rng, dtype=torch.float64)
        row = {"kind": "block", "first": 50 * b, "last": 50 * b + 49, "n": 10, "steps": 50, **base, **own}
        write(row | {"rho": [0.2, 0.2], "lr": [0.01, 0.01], "g": encode(noise[0] + g), "d": encode(noise[1] + d)})
    write.close()
    return path


FLOOR = {"noise": 0.5, "warm": 300, "mu": 0.5}
RUNS = {
    "rho holds the loss up": blocks,
    "two-cycle": lambda path: quadratic(path, rho=0.1, h=(1.0,), warm=600, steps=400, block=20),
    "trap": lambda path: run(
        path, lambda x: (1 - x.cos()).sum(), torch.sin, [2.5], rho=4.0, lr=0.5, warm=100, steps=200, block=20
    ),
    "rho floor": lambda path: quadratic(path, rho=3.0, steps=2000, block=100, reshuffled=False, **FLOOR),
    "noise floor": lambda path: quadratic(path, rho=1e-3, steps=2000, block=100, reshuffled=False, **FLOOR),
    "mixed floor": lambda path: quadratic(path, rho=1e-3, **FLOOR),
    "SAM is not what limits the loss": lambda path: quadratic(path, rho=1e-4, noise=0.5, warm=300, shift=3.0),
    "SAM speeds the descent up": lambda path: quadratic(path, rho=0.3, lr=0.002, steps=500),
    "undecided": lambda path: blocks(path, loss=None),
}
"""The verdict: what writes a log of such a run."""


def known_logs(tmp_path_factory):
    """The verdict: the log of such a run; they are written once for all tests, which only read them."""
    paths = {name: f"{i}.jsonl" for i, name in enumerate(RUNS)}
    folder = once(tmp_path_factory, "known-logs", lambda to: [write(to / paths[name]) for name, write in RUNS.items()])
    return {name: folder / path for name, path in paths.items()}
