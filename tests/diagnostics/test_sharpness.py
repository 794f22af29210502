"""Worst loss and m-sharpness against closed forms in NumPy, and against loops."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from tests.diagnostics.own_loss import ONES, Vector
from torch import nn
from torch.nn.functional import mse_loss

from sharpmin.diagnostics import hessian_spectrum, m_sharpness, worst_loss
from sharpmin.optim import L2, Elementwise, LInf, Masked


def quadratic(h, b):
    """The loss w'Hw/2 + b'w, whatever the batch."""
    h, b = torch.as_tensor(h), torch.as_tensor(b)
    return lambda w, _: (torch.einsum("ni,ij,nj->n", w, h, w) / 2 + w @ b).mean()


def symmetric(low, high, n=5, seed=0):
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.standard_normal((n, n)))
    return q @ np.diag(np.linspace(low, high, n)) @ q.T, rng.standard_normal(n), rng.standard_normal(n)


def trust_region(h, g, rho):
    """max e'He/2 + g'e over |e| <= rho: (s - H) e = g with s >= 0, s >= lambda_max (no hard case at random g)."""
    values, vectors = np.linalg.eigh(h)
    c = vectors.T @ g
    inside = values[-1] < 0 and np.linalg.norm(c / -values) <= rho

    def excess(s):
        return np.linalg.norm(c / (s - values)) - rho

    low = max(values[-1], 0.0) + 1e-12
    s = 0.0 if inside else brentq(excess, low, low + np.linalg.norm(c) / rho + 1, xtol=1e-14)
    e = c / (s - values)
    return float((values * e * e).sum() / 2 + c @ e)


@pytest.mark.parametrize(("low", "high"), [(0.1, 2.0), (-2.0, 1.0), (-3.0, -0.5), (1.0, 1.0)])
@pytest.mark.parametrize("rho", [0.05, 1.0, 20.0])
def test_l2_is_the_trust_region_maximum(low, high, rho):
    h, b, w = symmetric(low, high)
    found = worst_loss(Vector(w), quadratic(h, b), ONES, rho=rho, steps=300, restarts=2)
    want = trust_region(h, h @ w + b, rho)
    assert found.sharpness == pytest.approx(want, rel=1e-6)
    assert found.radius <= rho * (1 + 1e-12)
    assert found.base_loss == pytest.approx(w @ h @ w / 2 + b @ w, rel=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_linf_is_the_best_corner_of_a_convex_loss(seed):
    h, b, w = symmetric(0.5, 3.0, n=4, seed=seed)
    corners = [np.array(c) * 0.3 for c in itertools.product((-1, 1), repeat=4)]
    want = max(e @ h @ e / 2 + (h @ w + b) @ e for e in corners)
    found = worst_loss(Vector(w), quadratic(h, b), ONES, rho=0.3, geometry=LInf(), restarts=6)
    assert found.sharpness == pytest.approx(want, rel=1e-12)
    assert found.radius == pytest.approx(0.3, rel=1e-12)


@pytest.mark.parametrize("eta", [0.0, 0.1])
def test_elementwise_is_the_trust_region_in_scaled_coordinates(eta):
    h, b, w = symmetric(0.1, 2.0)
    t = np.diag(np.abs(w) + eta)
    found = worst_loss(Vector(w), quadratic(h, b), ONES, rho=0.5, geometry=Elementwise(eta), steps=300)
    assert found.sharpness == pytest.approx(trust_region(t @ h @ t, t @ (h @ w + b), 0.5), rel=1e-6)


def test_masked_leaves_the_other_coordinates():
    h, b, w = symmetric(0.1, 2.0)
    keep = np.array([0, 2, 3])
    mask = torch.zeros(5, dtype=torch.bool).index_fill(0, torch.as_tensor(keep), True)
    found = worst_loss(Vector(w), quadratic(h, b), ONES, rho=0.5, geometry=Masked(lambda _: mask), steps=300)
    assert found.sharpness == pytest.approx(trust_region(h[np.ix_(keep, keep)], (h @ w + b)[keep], 0.5), rel=1e-6)


def test_at_a_stationary_point_the_restarts_find_the_way_up():
    h, b, _ = symmetric(-1.0, 2.0)
    w = np.linalg.solve(h, -b)
    found = worst_loss(Vector(w), quadratic(h, b), ONES, rho=0.5, steps=300)
    assert found.sharpness == pytest.approx(2.0 * 0.5**2 / 2, rel=1e-6)


def test_a_maximum_has_no_sharpness():
    found = worst_loss(Vector(np.zeros(5)), quadratic(-np.eye(5), np.zeros(5)), ONES, rho=0.5)
    assert (found.sharpness, found.radius, found.restart) == (0.0, 0.0, None)


def net(seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)).to(dtype)


def samples(n=10, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, 3, generator=generator, dtype=dtype), torch.randn(n, 1, generator=generator, dtype=dtype)


def batches(sizes, dtype=torch.float64):
    x, y = samples(sum(sizes), dtype)
    return list(zip(x.split(sizes), y.split(sizes), strict=True))


def one_step(model, x, y, rho, eta=None):
    """max(0, L(w + e) - L(w)) by hand: e = rho g / |g|, or adaptive, rho T^2 g / |T g| with T = |w| + eta."""
    model = copy.deepcopy(model)
    loss = mse_loss(model(x), y)
    flat = nn.utils.parameters_to_vector(model.parameters()).detach()
    g = nn.utils.parameters_to_vector(torch.autograd.grad(loss, list(model.parameters())))
    t = torch.ones_like(flat) if eta is None else flat.abs() + eta
    nn.utils.vector_to_parameters(flat + rho * t**2 * g / (t * g).norm(), model.parameters())
    return max(0.0, (mse_loss(model(x), y) - loss).item())


@pytest.mark.parametrize("geometry", [L2(), LInf(), Elementwise(0.01)], ids=repr)
def test_at_least_the_one_step_sharpness_and_more_with_more(geometry):
    found = [
        worst_loss(net(), mse_loss, batches([6, 4]), rho=0.3, geometry=geometry, steps=s, restarts=1) for s in (1, 2, 5, 20)
    ]
    values = [f.sharpness for f in found]
    assert values == sorted(values)
    assert values[0] > 0
    assert found[0].restart == 0


def test_one_step_is_sams():
    x, y = samples()
    found = worst_loss(net(), mse_loss, [(x, y)], rho=0.3, steps=1, restarts=1)
    assert found.sharpness == pytest.approx(one_step(net(), x, y, 0.3), rel=1e-12)
    assert found.radius == pytest.approx(0.3, rel=1e-12)


def test_adaptive_sharpness_does_not_see_a_change_of_scale():
    """Doubling one layer and halving the next is the same function of a net without biases and with relu."""

    def two(scale):
        torch.manual_seed(3)
        model = nn.Sequential(nn.Linear(3, 8, bias=False), nn.ReLU(), nn.Linear(8, 1, bias=False)).double()
        with torch.no_grad():
            model[0].weight.mul_(scale)
            model[2].weight.div_(scale)
        return model

    adaptive = [worst_loss(two(s), mse_loss, batches([10]), rho=0.5, geometry=Elementwise(0.0)).sharpness for s in (1, 16)]
    plain = [worst_loss(two(s), mse_loss, batches([10]), rho=0.5).sharpness for s in (1, 16)]
    assert adaptive[0] == pytest.approx(adaptive[1], rel=1e-9)
    assert plain[1] > 2 * plain[0]


@pytest.mark.parametrize("sizes", [[10], [4, 4, 2], [7, 3], [1] * 10, [3, 0, 7]])
def test_batches_count_with_their_size(sizes):
    whole = worst_loss(net(), mse_loss, batches([10]), rho=0.3, steps=5)
    parts = worst_loss(net(), mse_loss, batches(sizes), rho=0.3, steps=5)
    assert parts.base_loss == pytest.approx(whole.base_loss, rel=1e-12)
    assert parts.sharpness == pytest.approx(whole.sharpness, rel=1e-9)


def test_m_equal_to_n_is_the_whole_and_m_1_a_loop():
    data = batches([4, 4, 2])
    keywords = {"rho": 0.3, "steps": 4, "restarts": 2}
    assert (
        m_sharpness(net(), mse_loss, data, m=10, **keywords).sharpness
        == worst_loss(net(), mse_loss, data, **keywords).sharpness
    )
    each = [one_step(net(), x[None], y[None], 0.3) for x, y in zip(*samples(), strict=True)]
    found = m_sharpness(net(), mse_loss, data, m=1, rho=0.3)
    assert found.sharpness == pytest.approx(math.fsum(each) / 10, rel=1e-9)
    assert found.groups == 10


@pytest.mark.parametrize("m", [1, 3, 10])
def test_adaptive_m_sharpness(m):
    x, y = samples()
    parts = list(zip(x.split(m), y.split(m), strict=True))
    want = math.fsum(one_step(net(), a, b, 0.3, eta=0.1) * len(a) for a, b in parts) / 10
    found = m_sharpness(net(), mse_loss, batches([6, 4]), m=m, rho=0.3, geometry=Elementwise(0.1))
    assert found.sharpness == pytest.approx(want, rel=1e-9)


def test_what_all_samples_share_is_not_cut():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net()

        def forward(self, inputs):
            return self.net(inputs["x"] * inputs["mask"])

    mask = torch.tensor([[1.0, 0.0, 2.0]], dtype=torch.float64)
    x, y = samples()
    found = m_sharpness(Shared(), mse_loss, [({"mask": mask, "x": x}, y)], m=3, rho=0.3)
    assert found.sharpness == m_sharpness(net(), mse_loss, [(x * mask, y)], m=3, rho=0.3).sharpness


@pytest.mark.parametrize("m", [2, 3, 4, 7, 9])
@pytest.mark.parametrize("sizes", [[10], [4, 4, 2], [1] * 10])
def test_groups_cross_batches_and_a_short_one_counts_less(m, sizes):
    x, y = samples()
    parts = list(zip(x.split(m), y.split(m), strict=True))
    want = math.fsum(one_step(net(), a, b, 0.3) * len(a) for a, b in parts) / 10
    found = m_sharpness(net(), mse_loss, batches(sizes), m=m, rho=0.3)
    assert found.sharpness == pytest.approx(want, rel=1e-9)
    assert (found.groups, found.m) == (len(parts), m)


def test_float32_and_bfloat16_report_the_radius_that_was_realized():
    for dtype, slack in ((torch.float32, 1e-5), (torch.bfloat16, 0.1)):
        data = batches([10], dtype)
        found = worst_loss(net(dtype=dtype), mse_loss, data, rho=0.3, steps=3)
        assert found.radius == pytest.approx(0.3, rel=slack)
        assert found.sharpness > 0


def test_a_loss_that_blows_up_in_the_ball_is_infinitely_sharp():
    def loss(w, _):
        return (1 / (1 - w)).log().mean()  # no number beyond w = 1

    assert worst_loss(Vector([0.5]), loss, ONES, rho=0.6).worst_loss == math.inf


def test_rho_zero_and_frozen_weights():
    model = net()
    assert worst_loss(model, mse_loss, batches([10]), rho=0.0).sharpness == 0
    model[0].requires_grad_(False)
    few = worst_loss(model, mse_loss, batches([10]), rho=0.3)
    assert 0 < few.sharpness <= worst_loss(net(), mse_loss, batches([10]), rho=0.3, steps=100).sharpness


def test_the_same_seed_gives_the_same_and_autocast_keeps_no_old_weights():
    def found(seed):
        return worst_loss(net(), mse_loss, batches([10]), rho=2.0, steps=2, restarts=4, seed=seed)

    assert found(1) == found(1)
    assert found(1).worst_loss != found(2).worst_loss
    data = batches([10], torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert worst_loss(net(dtype=torch.float32), mse_loss, data, rho=0.5).sharpness > 0.1
        model = net(dtype=torch.float32)
        before = model(data[0][0])
        worst_loss(model, mse_loss, data, rho=0.5)
        assert torch.equal(model(data[0][0]), before)


def test_dropout_that_is_always_on_sees_one_mask_in_every_pass():
    def loss(p, y):
        return mse_loss(nn.functional.dropout(p, 0.5, training=True), y)

    data = batches([6, 4])
    assert worst_loss(net(), loss, data, rho=1e-9).sharpness < 1e-7
    assert hessian_spectrum(net(), loss, data).largest_residuals[0] < 1e-6
