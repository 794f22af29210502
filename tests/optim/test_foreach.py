"""The fast path is the plain loops: the same sums, verdicts and weights on every kind of tensor that it serves."""

import math

import pytest
import torch
from torch import nn

import sharpmin as sm
from sharpmin.optim._numeric import dispatch, foreach, sums, tensors

F32, F64 = torch.float32, torch.float64


def random(*shapes, dtype=F32, scale=1.0):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(s, generator=generator, dtype=F64).mul(scale).to(dtype) for s in shapes]


def with_entry(value, shape, at, dtype=F32):
    (t,) = random(shape, dtype=dtype)
    t.view(-1)[at] = value
    return t


FINITE = {
    "none": [],
    "small": random((3,), (), (2, 4), (1, 1)),
    "pieces": random((65_535,), (65_536,), (65_537,), (200_001,)),
    "many-small": random(*[(1000,)] * 150),
    "double": random((3,), (70_000,), dtype=F64),
    "both": [*random((5,), (70_000,)), *random((6,), (), dtype=F64)],
    "empty": random((0,), (2, 0), (0, 3)),
    "some-empty": [*random((0,), (4,)), *random((0, 2), dtype=F64)],
    "expanded": [torch.tensor([2.0]).expand(7), torch.tensor(3.0).expand(2, 70_000), *random((3,))],
    "strided": [random((40, 50))[0].t(), random((90,))[0][::3], random((300, 400))[0].t(), random((4, 6))[0][:, 1:3]],
    "channels-last": [random((2, 3, 4, 5))[0].to(memory_format=torch.channels_last)],
    "huge": [*random((9,), scale=1e36), *random((9,), (70_000,), dtype=F64, scale=1e150)],
    "huge-float32": random((9,), (70_000,), scale=1e30),
    "largest": [torch.full((4,), torch.finfo(F32).max), -torch.full((4,), torch.finfo(F32).max)],
    "tiny": random((9,), (70_000,), scale=1e-30),
    "subnormal": random((9,), scale=1e-42),
    "zeros": [torch.zeros(5), torch.zeros(70_000, dtype=F64)],
    "beyond-squares": [torch.full((3,), 1e200, dtype=F64), torch.ones(2)],
}
BAD = {
    f"{value}-{name}": [*random((4,)), t]
    for value in (math.nan, math.inf, -math.inf)
    for name, t in {
        "small": with_entry(value, (3, 3), 4),
        "scalar": torch.tensor(value),
        "last-piece": with_entry(value, (200_001,), 200_000),
        "double": with_entry(value, (70_000,), 65_536, F64),
        "expanded": torch.tensor(value).expand(5),
        "strided": with_entry(value, (4, 6), 9).t(),
    }.items()
}
TABLE = FINITE | BAD


@pytest.fixture
def plain(monkeypatch):
    """`plain(f)`: what f gives without the fast path."""

    def call(function):
        with monkeypatch.context() as patch:
            patch.setattr(foreach, "serves", lambda *_: False)
            return function()

    return call


@pytest.fixture(autouse=True)
def fast_path_is_real():
    """It must serve the table, or nothing is compared."""
    assert all(module is foreach for ts in TABLE.values() for module, _, _ in dispatch.by_kind(ts))


@pytest.mark.parametrize("name", FINITE)
def test_sum_of_squares(plain, name):
    ts = FINITE[name]
    exact = sum(t.double().square().sum().item() for t in ts)
    tolerance = 1e-14 if ts and all(t.dtype is F64 for t in ts) else 1e-6
    fast, slow = (call(lambda: sums.sum_of_squares(ts)) for call in (lambda f: f(), plain))
    assert fast == pytest.approx(slow, rel=tolerance, abs=0)
    assert fast == pytest.approx(exact, rel=1e-6, abs=0)
    assert isinstance(fast, float)


@pytest.mark.parametrize("name", TABLE)
def test_all_finite(plain, name, bits):
    ts = TABLE[name]
    was, versions = bits(ts) if sum(t.numel() for t in ts) < 1000 else None, [t._version for t in ts]
    for call in (lambda f: f(), plain):
        assert call(lambda: sums.all_finite(ts)) is (name in FINITE)
    assert was is None or bits(ts) == was
    assert [t._version for t in ts] == versions


@pytest.mark.parametrize("norm", [0.0, math.inf, math.nan])
def test_a_norm_that_came_along_counts(plain, norm):
    for call in (lambda f: f(), plain):
        assert call(lambda: sums.all_finite(FINITE["small"], norm)) is (norm == 0.0)


@pytest.mark.parametrize("factor", [0.1, -3.7, 1e-20, 0.0])
@pytest.mark.parametrize("name", [name for name in FINITE if name not in ("expanded",)])
def test_displacement_bit_for_bit(plain, name, factor):
    ends = []
    for call in (lambda f: f(), plain):
        weights = [t.clone() for t in FINITE[name]]
        directions = [(t * 0.7).flip(0) if t.dim() else t * 0.7 for t in FINITE[name]]
        call(lambda w=weights, v=directions: tensors.add_all(w, v, factor))
        ends.append(weights)
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


@pytest.mark.parametrize(("weight", "direction"), [(F32, F64), (F64, F32)])
def test_displacement_along_another_dtype(plain, weight, direction):
    """A base may keep its momentum in float64: the sum is rounded once, to the dtype of the weight."""
    (start,), (v,) = random((1000,), dtype=weight), random((1000,), dtype=direction, scale=0.3)
    expected = (start.double() + 0.123456789 * v.double()).to(weight)
    for call in (lambda f: f(), plain):
        w = start.clone()
        call(lambda w=w: tensors.add_all([w], [v], 0.123456789))
        assert torch.allclose(w, expected, rtol=1e-15 if weight is F64 else 0, atol=0)


@pytest.mark.parametrize("kind", ["contiguous", "expanded", "pieces"])
def test_the_norm_of_fifty_million(plain, kind):
    """In one float32 sum it is 1.9 % off."""
    n, value = 50_000_000, torch.tensor(0.1).item()
    one = torch.tensor([0.1])
    ts = {
        "contiguous": lambda: [one.repeat(n)],
        "expanded": lambda: [one.expand(n)],
        "pieces": lambda: [one.repeat(n // 1000)] * 1000,
    }
    for call in (lambda f: f(), plain):
        assert call(lambda: sums.sum_of_squares(ts[kind]())) ** 0.5 == pytest.approx(value * n**0.5, rel=1e-4)


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("rest", [False, True])
def test_a_step_with_expanded_gradients(plain, dtype, rest):
    """Gradients whose entries share one place in memory, in a group that climbs and in one that rests."""
    ends = []
    for call in (lambda f: f(), plain):
        ps = [nn.Parameter(torch.zeros(4, dtype=dtype)) for _ in range(2)]
        opt = sm.SAM(torch.optim.SGD([{"params": ps[:1]}, {"params": ps[1:], "rho": 0.0 if rest else 1.0}], lr=0.5), rho=1.0)

        def step(opt=opt, ps=ps):
            for p in ps:
                p.grad = torch.ones(1, dtype=dtype).expand(4)
            with opt.perturbed():
                for p in ps:
                    p.grad = torch.ones(1, dtype=dtype).expand(4)
            opt.step()

        call(step)
        assert opt.last.stepped
        ends += ps
    assert all(p.tolist() == [-0.5] * 4 for p in ends)


def test_training_on_either_path(training, door, plain):
    f, g = training(), training()
    for h, call in ((f, lambda step: step()), (g, plain)):
        opt = sm.SAM(torch.optim.AdamW(h.net.parameters(), lr=0.02), rho=0.1)
        for _ in range(5):
            call(lambda opt=opt, h=h: door(opt, h))
    for a, b in zip(f.weights, g.weights, strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-14)
