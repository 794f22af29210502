"""Every function of the fast layer is the plain loop of that name, on every dtype that it serves, for host and accelerator."""

import math

import pytest
import torch

from sharpmin.optim._numeric import foreach, lines, loops
from sharpmin.optim._numeric.lines import Lines
from sharpmin.optim._numeric.rounding import StochasticRounding

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
SHAPES = [(3,), (), (2, 4), (70_001,), (5, 6), (0,), (1, 1), (foreach.SMALL,), (foreach.SMALL - 1,)]
SIGNED = ("inner", "products")  # sums in which terms cancel: some 1e-7 of their magnitudes, 5e4 here
TOLERANCE = {torch.float64: 1e-12}


def some(dtype, seed, *, strided=True):
    generator = torch.Generator().manual_seed(seed)
    out = [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in SHAPES]
    return [t.t().contiguous().t() if strided and t.dim() == 2 else t for t in out]


def close(dtype, fast, slow):
    assert fast.dtype == slow.dtype
    assert fast.shape == slow.shape
    assert torch.allclose(fast.double(), slow.double(), rtol=TOLERANCE.get(dtype, 2e-6), atol=TOLERANCE.get(dtype, 1e-6))


@pytest.fixture(params=["host", "accelerator"], autouse=True)
def who_waits(request):
    """Both answers to whether the host may read a value."""
    if request.param == "accelerator":
        request.getfixturevalue("accelerator")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["sum_of_squares", "sum_of_magnitudes", "largest_entry", "inner", "products"])
def test_numbers(name, dtype):
    lists = [some(dtype, seed) for seed in range(2 if name in ("inner", "products") else 1)]
    fast, slow = (getattr(module, name)(*lists) for module in (foreach, loops))
    assert fast.dtype == slow.dtype == torch.float64
    assert fast.tolist() == pytest.approx(slow.tolist(), rel=TOLERANCE.get(dtype, 1e-5), abs=1e-2 if name in SIGNED else 0)


MAKE = {
    "negated": (1, ()),
    "signs": (1, ()),
    "magnitudes": (1, (0.01,)),
    "norms": (1, ()),
    "are_finite": (1, ()),
    "clone_all": (1, ()),
    "scale_all": (1, (1.7,)),
    "scale_all ": (1, (torch.tensor(1.7, dtype=torch.float64),)),
    "multiply": (2, ()),
    "differences": (2, ()),
    "quotients": (2, ()),
    "square_roots": (1, (0.01,)),
    "combine": (2, (0.3, -1.2)),
    "combine ": (2, (torch.tensor(0.3, dtype=torch.float64), torch.tensor(-1.2, dtype=torch.float64))),
    "combine  ": (2, (1.0, 0.0)),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", MAKE)
def test_lists(name, dtype):
    count, arguments = MAKE[name]
    lists = [some(dtype, seed) for seed in range(count)]
    if name == "square_roots":
        lists = [[t.abs() for t in lists[0]]]
    fast, slow = (getattr(module, name.strip())(*lists, *arguments) for module in (foreach, loops))
    assert len(fast) == len(slow) == len(SHAPES)
    for one, other in zip(fast, slow, strict=True):
        if dtype in (torch.bfloat16, torch.float16) and name.startswith("combine"):  # the last bit before it is rounded
            assert torch.allclose(one.double(), other.double(), rtol=2.0**-7, atol=1e-3)
            continue
        if one.dtype is torch.bool:
            assert torch.equal(one, other)
        else:
            close(dtype, one, other)


@pytest.mark.parametrize("dtype", DTYPES)
def test_copies(dtype):
    targets, sources = some(dtype, 0), some(dtype, 1)
    places = [t.data_ptr() for t in targets]
    foreach.copy_all(targets, sources)
    assert all(torch.equal(a, b) for a, b in zip(targets, sources, strict=True))
    assert [t.data_ptr() for t in targets] == places


FACTORS = {
    "number": -0.37,
    "device": torch.tensor(-0.37, dtype=torch.float64),
    "zero": torch.tensor(0.0, dtype=torch.float64),
    "inf": torch.tensor(math.inf, dtype=torch.float64),
    "nan": torch.tensor(math.nan, dtype=torch.float64),
}


@pytest.mark.parametrize("scratch", [lines.SCRATCH, 2**12])
@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("vectors", DTYPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_add(dtype, vectors, factor, scratch, monkeypatch):
    """In scratch memory of any size, by a factor that is known or not; rounded once to the weights."""
    monkeypatch.setattr(lines, "SCRATCH", scratch)
    ends, own = [], Lines()
    for module in (foreach, loops):
        weights, moves = some(dtype, 0), some(vectors, 1)
        for _ in range(2):
            module.add_all(weights, moves, FACTORS[factor], None, own)
            own.release()
        ends.append(weights)
    for fast, slow, start in zip(*ends, some(dtype, 0), strict=True):
        if factor in ("zero", "inf", "nan"):
            assert torch.equal(fast, start)
            assert torch.equal(slow, start)
        elif dtype in (torch.bfloat16, torch.float16):
            assert (fast.double() - slow.double()).abs().le(torch.finfo(dtype).eps * slow.double().abs() + 1e-3).all()
        else:
            close(torch.float32 if torch.float64 in (dtype, vectors) and dtype != vectors else dtype, fast, slow)


def test_what_is_not_finite_moves_nothing_by_an_unknown_factor():
    for module in (foreach, loops):
        w, v = [torch.ones(3)], [torch.tensor([math.inf, math.nan, 1.0])]
        module.add_all(w, v, torch.tensor(0.0, dtype=torch.float64), None, Lines())
        assert w[0].tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("factor", [name for name in FACTORS if name != "number"])
def test_the_fused_kernel_is_the_loop(factor):
    """Which runs on CUDA; torch has it for the CPU, too, right in float32."""
    weights, vectors = some(torch.float32, 0, strided=False), some(torch.float32, 1, strided=False)
    slow, was = [w.clone() for w in weights], [v.clone() for v in vectors]
    assert foreach._fused(weights, vectors, FACTORS[factor])
    loops.add_all(slow, vectors, FACTORS[factor], None, Lines())
    for a, b in zip(weights, slow, strict=True):
        close(torch.float32, a, b)
    assert all(torch.equal(v, w) for v, w in zip(vectors, was, strict=True))


def test_the_fused_kernel_refuses_what_it_would_round():
    for w, v in ((torch.float64, torch.float64), (torch.bfloat16, torch.float32)):
        assert not foreach._fused(some(w, 0), some(v, 1), FACTORS["device"])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounding_at_random_is_right_in_the_mean(dtype):
    w, own = [torch.ones(50_000, dtype=dtype), torch.ones(50, 1000, dtype=dtype)], Lines()
    foreach.add_all(w, [torch.full_like(t, 0.5, dtype=torch.float32) for t in w], 1e-3, StochasticRounding(0), own)
    unit = torch.finfo(dtype).eps
    for t in w:
        assert set(t.unique().tolist()) <= {1.0, 1.0 + unit}
        assert t.double().mean().item() - 1 == pytest.approx(5e-4, abs=5 * unit / 2 / 50_000**0.5)
