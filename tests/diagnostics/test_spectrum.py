"""Both ends of the Hessian spectrum and its trace against dense Hessians."""

from functools import partial

import numpy as np
import pytest
import torch
from tests.diagnostics.hessians import batches, dense, net, samples
from torch import nn
from torch.nn import functional as F

from sharpmin import diagnostics
from sharpmin.diagnostics import hessian_trace
from sharpmin.diagnostics._sharpness.lanczos import end, size

hessian_spectrum = partial(diagnostics.hessian_spectrum, tol=1e-5)


@pytest.mark.parametrize("width", [3, 8, 20])  # 17 weights: all of H is built; 50 and 122: Lanczos
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("sizes", [[10], [4, 4, 2], [1, 9]])
def test_both_ends(width, k, sizes):
    h = dense(net(width), F.cross_entropy, *samples())
    values = np.linalg.eigvalsh(h)
    found = hessian_spectrum(net(width), F.cross_entropy, batches(sizes), k=k, vectors=True)
    assert np.allclose(found.largest, values[::-1][:k], rtol=0, atol=1e-6)
    assert np.allclose(found.smallest, values[:k], rtol=0, atol=1e-6)
    assert found.smallest[0] < 0
    assert found.method == "autograd"
    ends = [(found.largest, found.largest_residuals, found.largest_vectors)]
    ends.append((found.smallest, found.smallest_residuals, found.smallest_vectors))
    for eigenvalues, residuals, vectors in ends:
        assert max(residuals) <= 1e-5 * np.abs(values).max()
        for value, residual, vector in zip(eigenvalues, residuals, vectors, strict=True):
            assert [t.shape for t in vector] == [p.shape for p in net(width).parameters()]
            v = torch.cat([t.flatten() for t in vector]).numpy()
            assert np.linalg.norm(v) == pytest.approx(1, rel=1e-9)
            assert np.linalg.norm(h @ v - value * v) == pytest.approx(residual, abs=1e-12)


def test_one_end_alone_costs_less():
    both, top, bottom = (
        hessian_spectrum(net(), F.cross_entropy, batches([10]), which=w) for w in ("both", "largest", "smallest")
    )
    assert (top.largest, bottom.smallest) == (both.largest, both.smallest)
    assert (top.smallest, top.smallest_residuals, bottom.largest, bottom.largest_vectors) == ((), (), (), ())
    assert max(top.products, bottom.products) < both.products


def test_frozen_weights_are_left_out():
    model = net()
    model[0].requires_grad_(False)
    values = np.linalg.eigvalsh(dense(model, F.cross_entropy, *samples()))
    found = hessian_spectrum(model, F.cross_entropy, batches([10]), k=len(values))
    assert np.allclose(found.smallest, values, rtol=0, atol=1e-12)
    assert found.largest == found.smallest[::-1]


class Product(nn.Module):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = (nn.Parameter(torch.tensor(v, dtype=torch.float64)) for v in (x, y))

    def forward(self, ones):
        return self.x * self.y * ones


@pytest.mark.parametrize(("x", "y"), [(0.0, 0.0), (1.0, 1.0), (2.0, 0.5), (0.3, -0.2)])
def test_the_product_has_the_eigenvalues_of_its_two_by_two_hessian(x, y):
    ones = torch.ones(3, dtype=torch.float64)
    found = hessian_spectrum(Product(x, y), F.mse_loss, [(ones, ones)])
    want = np.linalg.eigvalsh([[2 * y * y, 4 * x * y - 2], [4 * x * y - 2, 2 * x * x]])
    assert (found.smallest[0], found.largest[0]) == pytest.approx(tuple(want), abs=1e-12)


@pytest.mark.parametrize(
    "values",
    [
        np.linspace(-1, 1, 200),
        np.r_[np.zeros(190), np.linspace(1, 5, 10)],  # singular, as at a minimum of an overparametrized net
        -np.linspace(1, 2, 200),
        np.full(200, -3.0),
        np.zeros(200),
        1e-9 * np.linspace(-1, 3, 200),
        np.r_[-1e-4, np.linspace(0, 1e-5, 198), 1e3],
    ],
    ids=["both signs", "singular", "concave", "multiple", "zero", "tiny", "ill-conditioned"],
)
def test_lanczos_reaches_its_residual_at_both_ends(values):
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.standard_normal((200, 200)))
    h = q @ np.diag(values) @ q.T
    start, scale = rng.standard_normal(200), np.abs(values).max()
    for sign, want in ((1, values.max()), (-1, values.min())):
        v = end(h.__matmul__, start, 1, sign, size(h.__matmul__, start), 1e-5, 5000)[:, 0]
        assert np.linalg.norm(h @ v - (v @ h @ v) * v) <= 1e-5 * scale + 1e-15
        assert v @ h @ v == pytest.approx(want, abs=1e-5 * scale + 1e-15)


@pytest.mark.parametrize("power", [3, 6, 12])
def test_eigenvalues_that_crowd_at_0_are_found_within_the_residual(power):
    """Relative to itself, no eigenvalue there is found, not with 5000 products; relative to the largest, within 300."""
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.standard_normal((200, 200)))
    h, start = q @ np.diag(np.linspace(0, 1, 200) ** power) @ q.T, rng.standard_normal(200)
    v = end(h.__matmul__, start, 1, -1, size(h.__matmul__, start), 1e-3, 300)[:, 0]
    assert np.linalg.norm(h @ v - (v @ h @ v) * v) <= 1e-3


def test_a_linear_loss_has_no_curvature():
    model = nn.Linear(40, 1).double()
    data = [(torch.ones(4, 40, dtype=torch.float64), torch.zeros(4))]
    found = hessian_spectrum(model, lambda p, _: p.mean(), data)
    assert (found.largest, found.smallest, found.method) == ((0.0,), (0.0,), "autograd")


def test_float32_is_summed_in_float64():
    h = dense(net(20), F.cross_entropy, *samples())
    data = [(x.float(), y) for x, y in batches([1] * 10)]
    found = hessian_spectrum(net(20).float(), F.cross_entropy, data)
    assert (found.smallest[0], found.largest[0]) == pytest.approx(tuple(np.linalg.eigvalsh(h)[[0, -1]]), abs=1e-6)


@pytest.mark.parametrize("sizes", [[10], [4, 4, 2]])
def test_the_trace_is_within_its_error_bar(sizes):
    h = dense(net(), F.cross_entropy, *samples())
    found = [hessian_trace(net(), F.cross_entropy, batches(sizes), probes=24, seed=s) for s in range(8)]
    errors = [(t.value - h.trace()) / t.standard_error for t in found]
    assert max(map(abs, errors)) < 4
    spread = (2 * (np.square(h).sum() - np.square(np.diag(h)).sum()) / 24) ** 0.5
    assert np.mean([t.standard_error for t in found]) == pytest.approx(spread, rel=0.25)


def test_the_trace_of_a_diagonal_hessian_is_exact():
    curvatures = torch.linspace(-1, 3, 7, dtype=torch.float64)
    model = nn.Linear(7, 1, bias=False).double()
    found = hessian_trace(
        model,
        lambda p, _: (curvatures * model.weight[0] ** 2).sum() / 2 + p.mean(),
        [(torch.ones(2, 7).double(), torch.ones(2))],
    )
    assert found.value == pytest.approx(7.0, rel=1e-14)
    assert found.standard_error <= 1e-14
