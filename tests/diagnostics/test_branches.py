"""What the branches of a toggle do, by hand and in plain numbers, and what it makes of their losses."""

import math
import random
import statistics

import pytest
import torch
from scipy.stats import t as student
from torch import nn

import sharpmin as sm
from sharpmin.diagnostics import toggle

H, RHO, LR, COUNT = (0.5, 2.0), 0.4, 0.1, 40
FACTORS = {"rho": (1.0, 1.0), "rho = 0": (0.0, 1.0), "rho / 2": (0.5, 1.0), "lr / 2": (1.0, 0.5)}
"""Name -> what the name says: the factor of rho, and that of the learning rate."""


def noises():
    draw = random.Random(3)
    return [[draw.gauss(0, 0.5) for _ in H] for _ in range(COUNT)]


def by_hand(w, rho, lr):
    """SAM on 0.5 w'Hw + xi'w: the losses at w, and the w of the end."""
    losses = []
    for xi in noises():
        losses.append(sum(0.5 * h * x * x + n * x for h, x, n in zip(H, w, xi, strict=True)))
        g = [h * x + n for h, x, n in zip(H, w, xi, strict=True)]
        norm = math.hypot(*g)
        big = [h * (x + rho * a / norm) + n for h, x, n, a in zip(H, w, xi, g, strict=True)]
        w = [x - lr * b for x, b in zip(w, big, strict=True)]
    return losses, w


def toggled(rho):
    w = nn.Parameter(torch.tensor([3.0, -1.0], dtype=torch.float64))
    opt = sm.SAM(torch.optim.SGD([w], lr=LR), rho=rho)
    h = torch.tensor(H, dtype=torch.float64)

    def step(net, opt, xi):
        def closure():
            opt.zero_grad()
            loss = (0.5 * h * net[0] ** 2 + torch.tensor(xi, dtype=torch.float64) * net[0]).sum()
            loss.backward()
            return loss

        return opt.step(closure)

    def evaluate(net):
        return float(net[0].detach().sum())

    return toggle(nn.ParameterList([w]), opt, step, noises(), branches=list(FACTORS), evaluate=evaluate)


@pytest.mark.parametrize("rho", [RHO, sm.rho.Constant(RHO)], ids=["number", "schedule"])
def test_every_branch_is_the_run_that_its_name_says(rho):
    found = toggled(rho)
    assert list(found.losses) == list(FACTORS)
    assert list(found.differences) == [name for name in FACTORS if name != "rho"]
    for name, (of_rho, of_lr) in FACTORS.items():
        losses, _ = by_hand([3.0, -1.0], of_rho * RHO, of_lr * LR)
        assert found.losses[name] == pytest.approx(losses, rel=1e-11), name


def test_a_difference_is_the_mean_fall_over_the_second_half_with_students_interval():
    runs = {name: by_hand([3.0, -1.0], a * RHO, b * LR) for name, (a, b) in FACTORS.items()}
    for name, found in toggled(RHO).differences.items():
        falls = [a - b for a, b in zip(runs["rho"][0][COUNT // 2 :], runs[name][0][COUNT // 2 :], strict=True)]
        means = [statistics.fmean(falls[at : at + 2]) for at in range(0, 20, 2)]
        half = float(student.ppf(0.975, 9)) * statistics.stdev(means) / math.sqrt(10)
        mean = statistics.fmean(falls)
        assert found.mean == pytest.approx(mean, rel=1e-9)
        assert found.interval == pytest.approx((mean - half, mean + half), rel=1e-3)
        assert found.final == pytest.approx(sum(runs["rho"][1]) - sum(runs[name][1]), rel=1e-9)
        assert found.clear is (mean - half > 0 or mean + half < 0)
