"""SAM with momentum on a quadratic: the optimizer itself on the cycle of EMA-CYCLE, and attractors beside it."""

import pytest
import torch

import sharpmin as sm
from sharpmin.theory import theorems
from sharpmin.theory._theorems.ema_cycle import height, largest

AVERAGES = {"heavy-ball": 0.0, "exponential": None}  # torch's dampening; None: that of the momentum


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("b", [0.3, 0.9])
def test_the_optimizer_jumps_between_the_two_points(average, b):
    lam, rho, lr = 2.0, 0.7, 0.15
    c = height(curvature=lam, rho=rho, lr=lr, momentum=b, average=average)
    x = torch.nn.Parameter(torch.tensor([c], dtype=torch.float64))
    base = torch.optim.SGD([x], lr=lr, momentum=b, dampening=b if AVERAGES[average] is None else 0.0)
    base.state[x]["momentum_buffer"] = torch.tensor([-2 * c / lr], dtype=torch.float64)
    opt = sm.SAM(base, rho=rho)

    def closure():
        opt.zero_grad()
        loss = (lam * x * x / 2).sum()
        loss.backward()
        return loss

    for t in range(1, 7):
        opt.step(closure)
        assert x.item() == pytest.approx(c * (-1) ** t, rel=1e-9)
    bound = theorems()["ema-cycle"].bound(curvature=lam, rho=rho, lr=lr, momentum=b, average=average)
    assert lam * x.item() ** 2 / 2 == pytest.approx(bound, rel=1e-9)


@pytest.mark.parametrize(
    ("b", "x", "times"), [(0.9, 1.0, 16.787008), (0.9, 3.0, 9.910746), (0.5, 3.0, 2.493213), (0.0, 3.0, 1.0)]
)
def test_other_attractors_with_momentum_and_none_without(b, x, times):
    k = {"curvature": 1.0, "rho": 1.0, "lr": 0.1, "momentum": b, "average": "heavy-ball"}
    assert largest(**k, x=x, v=0.0, steps=5000) / height(**k) == pytest.approx(times, rel=1e-6)


@pytest.mark.parametrize("share", [0.98, 1.02])
def test_beyond_its_range_the_cycle_does_not_attract(share):
    """Just inside a deviation shrinks, just outside it grows; the height is that of the formula without its condition."""
    b, rho = 0.5, 1.0
    s = share * 2 * (1 + b)
    c = s * rho / (2 * (1 + b) - s)
    x, v, size = c * (1 + 1e-6), -2 * c / s, []
    for t in range(200):
        v = b * v + x + (rho if x > 0 else -rho)
        x -= s * v
        size.append(abs(x - c * (-1) ** (t + 1)))
    assert (size[-1] < size[0]) == (share < 1)
