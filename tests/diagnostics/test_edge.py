"""SAM's edge of stability: where the steps of SAM with momentum cease to come closer, and on two-cycles exactly."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import sharpmin as sm
from sharpmin.diagnostics import edge_of_stability

POSITIVE = st.floats(1e-3, 1e3)


@given(POSITIVE, st.floats(0, 1e3), POSITIVE, st.floats(0, 0.99))
def test_it_is_the_root(norm, rho, lr, momentum):
    """lam (1 + rho lam / ||g||) = 2 (1 + b) / lr."""
    lam = edge_of_stability(norm, rho, lr, momentum)
    assert lam * (1 + rho * lam / norm) == pytest.approx(2 * (1 + momentum) / lr, rel=1e-9)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("rho", [0.0, 0.02, 0.3])
def test_beyond_it_the_linear_iteration_of_momentum_diverges(momentum, rho):
    """Of (x, v) -> (x - lr v', v'), v' = b v + c x with c = lam (1 + rho lam / ||g||)."""
    lr, norm = 0.1, 0.7
    edge = edge_of_stability(norm, rho, lr, momentum)
    for factor, stable in ((0.99, True), (1.01, False)):
        lam = factor * edge
        c = lam * (1 + rho * lam / norm)
        step = np.array([[1 - lr * c, -lr * momentum], [c, momentum]])
        assert bool(max(abs(np.linalg.eigvals(step))) <= 1 + 1e-12) is stable


def test_a_two_cycle_is_at_the_edge():
    """On x^2 lam / 2 SAM ends between +-lr lam rho / (2 - lr lam), where it gets neither closer nor farther."""
    lam, lr, rho = 3.0, 0.4, 0.2
    w = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    opt = sm.SAM(torch.optim.SGD([w], lr=lr), rho=rho)
    probe = sm.watch(opt, block=20)

    def closure():
        opt.zero_grad()
        loss = 0.5 * lam * w.square().sum()
        loss.backward()
        return loss

    for _ in range(400):
        opt.step(closure)
    n = sm.diagnose(probe).numbers
    assert n.curvature == pytest.approx(lam, rel=1e-9)
    assert n.edge == pytest.approx(lam, rel=1e-9)
    assert abs(w.item()) == pytest.approx(lr * lam * rho / (2 - lr * lam), rel=1e-9)


def test_it_is_not_said_of_another_base():
    w = nn.Parameter(torch.linspace(1, 2, 5))
    opt = sm.SAM(torch.optim.AdamW([w], lr=0.01), rho=0.1)
    probe = sm.watch(opt, block=2)
    for _ in range(60):
        opt.zero_grad()
        w.square().sum().backward()
        with opt.perturbed():
            w.square().sum().backward()
        opt.step()
    assert sm.diagnose(probe).numbers.edge is None


def test_its_limits():
    assert edge_of_stability(0.0, 0.1, 0.1) == 0.0
    assert edge_of_stability(0.0, 0.0, 0.1) == 20.0
    assert edge_of_stability(1e-12, 1e-300, 1e-3) == pytest.approx(2000.0)


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((-1.0, 0.1, 0.1, 0.0), "gradient_norm"),
        ((math.nan, 0.1, 0.1, 0.0), "gradient_norm"),
        ((1.0, -0.1, 0.1, 0.0), "rho"),
        ((1.0, 0.1, 0.0, 0.0), "lr"),
        ((1.0, 0.1, 0.1, 1.0), "momentum"),
        ((1.0, 0.1, 0.1, -0.1), "momentum"),
    ],
)
def test_refusals(numbers, words):
    with pytest.raises(ValueError, match=f"edge_of_stability: {words}"):
        edge_of_stability(*numbers)
