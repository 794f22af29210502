"""SAM against the equations, written once more in NumPy: every schedule, base optimizer, door and dtype."""

import numpy as np
import pytest
import torch
from torch import nn

import sharpmin as sm

STEPS = 20
LEARNING_RATES = [0.1 / (1 + t / 7) for t in range(STEPS)]
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}

SCHEDULES = {
    "zero": (0.0, lambda t, lr, n: 0.0),
    "constant": (0.1, lambda t, lr, n: 0.1),
    "cosine": (sm.rho.Cosine(0.2, steps=12), lambda t, lr, n: 0.1 * (1 + np.cos(np.pi * t / 12)) * (t < 12)),
    "inverse-sqrt": (sm.rho.InverseSqrt(0.3), lambda t, lr, n: 0.3 * (t + 1) ** -0.5),
    "follows-lr": (sm.rho.ProportionalToLR(0.2, lr=0.1, power=0.5), lambda t, lr, n: 0.2 * (lr / 0.1) ** 0.5),
    "every": (sm.rho.Every(0.2, k=3), lambda t, lr, n: 0.2 * (t % 3 == 0)),
    "unnormalized": (sm.rho.Unnormalized(0.05), lambda t, lr, n: 0.05 * n),
    "capped": (sm.rho.Capped(sm.rho.InverseSqrt(0.3), c=0.05), lambda t, lr, n: min(0.3 * (t + 1) ** -0.5, 0.05 * n)),
}
BASES = {
    "sgd": lambda ps: torch.optim.SGD(ps, lr=0.1),
    "momentum": lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9, weight_decay=0.01),
    "adamw": lambda ps: torch.optim.AdamW(ps, lr=0.1, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.05),
}

_random = np.random.default_rng(7)
_M = _random.normal(size=(6, 6))
A = _M @ _M.T / 6 + np.diag([0.1, 0.2, 0.5, 1.0, 2.0, 4.0])
B, START = _random.normal(size=6), _random.normal(size=6)


def gradient(w):
    """Of f(w) = 0.5 w'Aw - b'w + sum log cosh w."""
    return A @ w - B + np.tanh(w)


def oracle(rho, base):
    """SAM by its equations; the weights after each step."""
    w, m, v, path = START.copy(), np.zeros(6), np.zeros(6), []
    for t, lr in enumerate(LEARNING_RATES):
        g = gradient(w)
        n = np.sqrt(g @ g)
        big = gradient(w + rho(t, lr, n) * g / n)
        if base == "adamw":
            w = w * (1 - lr * 0.05)
            m, v = 0.9 * m + 0.1 * big, 0.99 * v + 0.01 * big**2
            w = w - lr * (m / (1 - 0.9 ** (t + 1))) / (np.sqrt(v / (1 - 0.99 ** (t + 1))) + 1e-8)
        elif base == "momentum":
            m = 0.9 * m + big + 0.01 * w
            w = w - lr * m
        else:
            w = w - lr * big
        path.append(w)
    return np.array(path)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_twenty_steps(*, door, schedule, base, dtype):
    rho, radius = SCHEDULES[schedule]
    start = torch.tensor(START, dtype=dtype)
    x, y = nn.Parameter(start[:4].reshape(2, 2)), nn.Parameter(start[4:].clone())
    a, b = torch.tensor(A, dtype=dtype), torch.tensor(B, dtype=dtype)
    opt = sm.SAM(BASES[base]([x, y]), rho=rho)

    def backward():
        w = torch.cat([x.flatten(), y])
        loss = 0.5 * w @ a @ w - b @ w + torch.log(torch.cosh(w)).sum()
        loss.backward()
        return loss

    path = []
    for lr in LEARNING_RATES:
        opt.param_groups[0]["lr"] = lr
        door(opt, backward)
        path.append(torch.cat([x.flatten(), y]).detach().double().numpy())
    assert np.abs(np.array(path) - oracle(radius, base)).max() < TOLERANCE[dtype]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_accelerator_path_is_the_host_path(*, quadratic, block_door, request, schedule):
    f, g = quadratic(), quadratic()
    rho, _ = SCHEDULES[schedule]
    on_host, on_device = (sm.SAM(torch.optim.SGD([h.w], lr=0.05), rho=rho) for h in (f, g))
    for _ in range(STEPS):
        block_door(on_host, f)
    request.getfixturevalue("accelerator")
    for _ in range(STEPS):
        block_door(on_device, g)
    assert (f.w - g.w).abs().max().item() < 1e-14
    numbers = [(r.rho, r.radius, r.dual_norm or 0.0, r.gain or 0.0) for r in (on_host.last, on_device.last)]
    assert numbers[1] == pytest.approx(numbers[0], rel=1e-12)
