"""Radii, norms and the way back where floats are short, tiny, huge or many."""

import math

import pytest
import torch
from torch import nn

import sharpmin as sm
from sharpmin.optim._numeric import sums

HALF = [torch.float16, torch.bfloat16]


def climb(weights, grads, rho=0.5):
    """The weights inside the block, and the optimizer after it."""
    for p, g in zip(weights, grads, strict=True):
        p.grad = g
    opt = sm.SAM(torch.optim.SGD(weights, lr=0.0), rho=rho)
    with opt.perturbed():
        inside = [p.detach().clone() for p in weights]
        for p, g in zip(weights, grads, strict=True):
            p.grad = g.clone()
    opt.step()
    return inside, opt


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, *HALF])
def test_zero_gradients_leave_finite_weights(path, door, dtype, bits):
    p = nn.Parameter(torch.randn(5).to(dtype))
    was = bits(p)
    opt = sm.SAM(torch.optim.SGD([p], lr=0.1), rho=0.5)

    def zero():
        p.grad = torch.zeros_like(p)

    door(opt, zero)
    assert bits(p) == was
    seen = {
        "passes": opt.last.passes,
        "total_passes": opt.last.passes,
        "measured": opt.last.measured,
        "climbed": int(path != "host"),
    }  # there it is not read
    assert opt.last == sm.StepReport(stepped=True, rho=0.5, radius=0.0, dual_norm=0.0, gain=None, steps=1, **seen)


def test_fp16_norm_beyond_the_range_of_fp16(path):
    p = nn.Parameter(torch.ones(100, dtype=torch.float16))
    (inside,), opt = climb([p], [torch.full((100,), 3e4, dtype=torch.float16)])
    assert (inside.double() - 1.0).norm().item() == pytest.approx(0.5, rel=0.05)
    assert opt.last.radius == pytest.approx(0.5, rel=0.05)
    assert opt.last.dual_norm == pytest.approx(3e5, rel=1e-3)


@pytest.mark.parametrize("scale", [1e-42, 1e-38, 1e-25, 1e25, 1e38])
def test_fp32_gradients_whose_squares_leave_fp32(scale):
    p = nn.Parameter(torch.ones(4))
    (inside,), opt = climb([p], [torch.full((4,), scale)])
    assert torch.equal(inside, torch.full((4,), 1.25))
    assert opt.last.dual_norm == pytest.approx(2 * torch.tensor(scale).item(), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_whose_sum_of_squares_overflows_are_still_finite(dtype, bits):
    """rho = 0 is the base: a finite gradient is stepped with, however large."""
    huge = torch.finfo(dtype).max / 2
    p, q = (nn.Parameter(torch.ones(4, dtype=dtype)) for _ in range(2))
    p.grad, q.grad = torch.full_like(p, huge), torch.full_like(q, huge)
    opt = sm.SAM(torch.optim.SGD([p], lr=1e-3), rho=0.0)
    opt.step()
    torch.optim.SGD([q], lr=1e-3).step()
    assert opt.last.stepped
    assert bits(p) == bits(q)


@pytest.mark.parametrize("n", [1, 65_535, 65_536, 65_537, 3_000_000])
def test_norm_of_many_equal_entries(path, n):
    """In one piece, float32 partial sums drift: 3e6 entries are then 9e-4 wrong."""
    exact = n * torch.tensor(0.1).item() ** 2
    assert float(sums.sum_of_squares([torch.full((n,), 0.1)])) == pytest.approx(exact, rel=2e-5)


def test_sums_are_additive_over_any_split(path):
    t = torch.randn(200_000)
    parts = [t[:3], t[3:70_000], t[70_000:70_000], t[70_000:]]
    whole = float(sums.sum_of_squares([t]))
    assert sum(float(sums.sum_of_squares([part])) for part in parts) == pytest.approx(whole, rel=1e-6)
    assert float(sums.sum_of_squares(parts)) == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize("dtype", [*HALF, torch.float32])
def test_two_hundred_steps_at_zero_learning_rate_do_not_drift(path, dtype, bits):
    p = nn.Parameter(torch.randn(64).to(dtype))
    was = bits(p)
    for _ in range(200):
        climb([p], [torch.randn(64).to(dtype)])
    assert bits(p) == was


@pytest.mark.parametrize("dtype", HALF)
def test_radius_and_gain_are_measured_on_rounded_weights(path, dtype):
    p = nn.Parameter(torch.randn(64).to(dtype))
    was = p.detach().double()
    g = torch.randn(64).to(dtype)
    (inside,), opt = climb([p], [g], rho=0.05)
    e = inside.double() - was
    assert opt.last.radius == pytest.approx(e.norm().item(), rel=1e-6)
    assert opt.last.gain == pytest.approx((e @ g.double()).item() / (0.05 * g.double().norm().item()), rel=1e-5)


@pytest.mark.parametrize("telemetry", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_when_the_radius_is_measured(path, dtype, telemetry):
    """Of weights that may be rounded: in the first two steps, then in every 64th, or in all where telemetry is asked for."""
    p, g = nn.Parameter(torch.randn(64).to(dtype)), torch.randn(64).to(dtype)
    was = p.detach().clone().double()
    opt = sm.SAM(torch.optim.SGD([p], lr=0.0), rho=1.0, telemetry=telemetry)
    for t in range(130):
        p.grad = g.clone()
        with opt.perturbed():
            length = (p.detach().double() - was).norm().item()
            p.grad = g.clone()
        opt.step()
        measured = dtype is torch.bfloat16 and (telemetry or t < 2 or t % 64 == 0)
        assert opt.last.measured is measured
        assert opt.last.radius == pytest.approx(length if measured else 1.0, rel=1e-6)
        assert (opt.last.gain is None) is (dtype is torch.bfloat16 and not measured)


def reported(weights, grads, rho):
    """`climb`, and a look at the report: on an accelerator the loss of ascent is known then."""
    inside, opt = climb(weights, grads, rho=rho)
    assert opt.last == opt.last
    return inside, opt


def test_a_perturbation_that_rounding_swallows_is_reported(path):
    """1000 bf16 ones, equal gradients: nothing moves, and the report says so."""
    p = nn.Parameter(torch.ones(1000, dtype=torch.bfloat16))
    with pytest.warns(UserWarning, match=r'only 0% of the ascent.*float32 under autocast.*rounding="stochastic"') as seen:
        inside, opt = reported([p], [torch.ones(1000, dtype=torch.bfloat16)], rho=0.05)
    assert len(seen) == 1
    assert torch.equal(inside[0], p)
    assert (opt.last.rho, opt.last.radius, opt.last.gain) == (0.05, 0.0, 0.0)


def test_half_precision_is_rounded_once():
    p = nn.Parameter(torch.randn(512).bfloat16())
    g = torch.randn(512).bfloat16()
    expected = (p.float() + g.float() / math.sqrt(float(sums.sum_of_squares([g]))) * 0.3).bfloat16()
    (inside,), _ = climb([p], [g], rho=0.3)
    assert torch.equal(inside, expected)


def test_mixed_dtypes_share_one_norm(path):
    ps = [nn.Parameter(torch.ones(1, dtype=d)) for d in (torch.float64, torch.float32, torch.bfloat16, torch.float16)]
    inside, opt = climb(ps, [torch.full_like(p, 2.0) for p in ps], rho=1.0)
    assert opt.last.dual_norm == 4.0
    assert [w.item() for w in inside] == [1.5, 1.5, 1.5, 1.5]


def test_complex_parameters(path):
    p = nn.Parameter(torch.tensor([1 + 1j, 2.0], dtype=torch.complex128))
    (inside,), opt = climb([p], [torch.tensor([3j, 4.0], dtype=torch.complex128)])
    assert opt.last.dual_norm == 5.0
    assert torch.allclose(inside, torch.tensor([1 + 1.3j, 2.4], dtype=torch.complex128), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_sparse_gradients(path, dtype):
    """Repeated rows add up before the norm is taken."""
    p = nn.Parameter(torch.ones(4, 1, dtype=dtype))
    rows = torch.tensor([[2, 1, 1]])
    g = torch.sparse_coo_tensor(rows, torch.tensor([[3.0], [2.0], [2.0]], dtype=dtype), (4, 1), check_invariants=True)
    (inside,), opt = climb([p], [g])
    assert (opt.last.dual_norm, opt.last.radius) == (5.0, pytest.approx(0.5, rel=1e-2))
    assert torch.allclose(inside.flatten(), torch.tensor([1, 1.4, 1.3, 1]).to(dtype))
    assert p.flatten().tolist() == [1.0, 1.0, 1.0, 1.0]


def test_sparse_embedding_in_training(path, door):
    table = nn.Embedding(4, 1, sparse=True)
    with torch.no_grad():
        table.weight.copy_(torch.tensor([[0.0], [4.0], [3.0], [9.0]]))
    opt = sm.SAM(torch.optim.SGD(table.parameters(), lr=0.1), rho=0.5)

    def backward():
        loss = 0.5 * table(torch.tensor([1, 2])).square().sum()
        loss.backward()
        return loss

    assert door(opt, backward).item() == 12.5
    assert table.weight.flatten().tolist() == pytest.approx([0.0, 3.56, 2.67, 9.0], abs=1e-6)


@pytest.mark.parametrize("shape", [(), (0,), (2, 0), (1, 1, 3)])
def test_unusual_shapes(path, shape):
    p, q = nn.Parameter(torch.zeros(shape, dtype=torch.float64)), nn.Parameter(torch.zeros(1, dtype=torch.float64))
    inside, _ = climb([p, q], [torch.ones(shape, dtype=torch.float64), torch.ones(1, dtype=torch.float64)])
    assert sum(w.square().sum().item() for w in inside) == pytest.approx(0.25, abs=1e-15)
    assert inside[0].shape == shape


def test_complex_parameters_in_groups_of_different_radii(path):
    ps = [nn.Parameter(torch.tensor([1 + 1j], dtype=torch.complex128)) for _ in range(2)]
    ps[0].grad, ps[1].grad = (torch.tensor([g], dtype=torch.complex128) for g in (3j, 4.0))
    opt = sm.SAM(torch.optim.SGD([{"params": [ps[0]]}, {"params": [ps[1]], "rho": 1.0}], lr=0.0), rho=0.5)
    with opt.perturbed():
        assert [p.item() for p in ps] == pytest.approx([1 + 1.3j, 1.8 + 1j], abs=1e-12)
    assert opt.last.radius == pytest.approx((0.3**2 + 0.8**2) ** 0.5, abs=1e-12)
    assert opt.last.gain == pytest.approx(1.0, abs=1e-12)


def test_squares_are_added_in_float64(path):
    """Each square fits float32, their sum does not."""
    ps = [nn.Parameter(torch.ones(1)) for _ in range(2)]
    _, opt = climb(ps, [torch.full((1,), 1.5e19) for _ in ps])
    assert opt.last.dual_norm == pytest.approx(1.5e19 * 2**0.5, rel=1e-6)
