"""Softmax regression against torch, its constants against brute force, its optimum against the text."""

import numpy as np
import pytest
import torch

from sharpmin.theory import InverseTime, problems, simulate
from sharpmin.theory._theorems.digits_decay import paired
from sharpmin.theory._theorems.t6 import T6


@pytest.fixture(scope="module")
def f():
    return problems()["digits"]()


def torch_loss(f, w, rows):
    features, labels = torch.as_tensor(f.features[rows]), torch.as_tensor(f.labels[rows])
    loss = torch.nn.functional.cross_entropy(features @ w.view(64, 10), labels)
    return loss + f.l2 / 2 * (w * w).sum()


@pytest.mark.parametrize("rows", [slice(None), np.array([3, 3, 1700, 5])])
def test_value_and_gradient_equal_torch(f, rows):
    x = np.random.default_rng(0).normal(0, 1.0, (2, 640))
    for lane in range(2):
        w = torch.tensor(x[lane], requires_grad=True)
        loss = torch_loss(f, w, rows)
        loss.backward()
        if isinstance(rows, slice):
            got = f.gradient(x)[lane]
            assert f.value(x)[lane] == pytest.approx(loss.item(), abs=1e-12)
        else:
            got = f.sample_gradient(x, np.tile(rows, (2, 1)))[lane]
        assert np.allclose(got, w.grad.numpy(), atol=1e-13)


def test_constants(f):
    assert (f.beta, f.beta_component, f.f_star) == pytest.approx((5.328, 11.65, 1.668359), abs=5e-3)
    assert f.f_star == pytest.approx(1.668359, abs=1e-6)
    assert f.gap(np.zeros((1, 640)))[0] == pytest.approx(0.63423, abs=1e-5)
    assert np.linalg.norm(f.gradient(f.minimizer[None])) < 1e-9


def test_beta_bounds_the_hessian_and_batches_lie_between(f):
    w = torch.zeros(640, dtype=torch.float64)
    hessian = torch.autograd.functional.hessian(lambda v: torch_loss(f, v, slice(None)), w)
    spectrum = torch.linalg.eigvalsh(hessian)
    assert f.mu * (1 - 1e-9) <= spectrum[0].item()
    assert spectrum[-1].item() <= f.beta
    assert f.beta < f.beta_batch < f.beta_component


def test_sigma_bounds_the_variance_of_a_batch(f):
    x = np.zeros((1, 640))
    single = f.sample_gradient(np.zeros((1797, 640)), np.arange(1797)[:, None])
    variance = ((single - f.gradient(x)) ** 2).sum(axis=1).mean() / f.batch
    assert variance <= f.sigma**2


def test_t6_on_digits_and_what_it_says_of_delta(f):
    delta = float(f.gap(np.zeros((1, 640)))[0])
    k = {"beta": f.beta, "mu": f.mu, "sigma": f.sigma, "steps": 10_000, "delta": delta, "beta_component": f.beta_batch}
    assert T6.bound(**k, rho=0.05, oracle="m-sam") / delta == pytest.approx(0.82, abs=0.005)
    assert T6.bound(**k, rho=0.05, oracle="n-sam") / delta == pytest.approx(0.73, abs=0.005)
    assert f.beta**2 * 0.1**2 / (2 * f.mu) > delta  # at rho = 0.1 the floor alone is vacuous


def test_t6_is_false_with_the_smoothness_of_the_mean_for_m_sam():
    """E1: f is a parabola of curvature mu, its samples are beta-smooth; the floor needs the samples' smoothness."""
    e1, mu, rho, steps = problems()["e1"](beta=1.0, mu=0.1, rho=1.0), 0.1, 1.0, 100_000
    gap = mu * 3.065625**2 / 2  # where m-SAM stays for ever
    k = {"beta": e1.beta, "mu": mu, "sigma": e1.sigma, "rho": rho, "steps": steps, "delta": gap, "lr": 1e-3}
    run = simulate(e1, method="m-sam", lr=1e-3, rho=rho, steps=2000, x0=3.065625, seeds=range(4), means=False)
    assert e1.gap(run.x_final.values) == pytest.approx(gap, abs=1e-9)
    assert T6.bound(**k, oracle="n-sam") < gap  # the smoothness of f alone, whatever the variance: refuted
    assert T6.bound(**k, oracle="m-sam", beta_component=e1.beta_component) >= gap


def test_full_batch_is_chaotic_near_the_optimum(f):
    """Why no row compares constant with decaying rho full batch: starts 1e-6 apart end a factor apart."""
    lr, x0 = InverseTime(f.mu, 2 * f.beta / f.mu), np.random.default_rng(0).normal(0, 1e-6, (6, 640))
    gaps = f.gap(simulate(f, method="sam", lr=lr, rho=0.5, steps=1000, x0=x0, means=False).x_final.values)
    assert gaps.max() > 5 * gaps.min()


def test_at_small_rho_only_pairing_decides():
    constant, decaying = paired("m-sam", 0.05, range(8))
    unpaired = 4 * np.hypot(constant.std(ddof=1), decaying.std(ddof=1)) / np.sqrt(8)
    paired_error = 4 * (constant - decaying).std(ddof=1) / np.sqrt(8)
    assert paired_error < (constant - decaying).mean() < unpaired
