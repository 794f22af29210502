"""A15: stochastic rounding keeps the ascent that rounding to nearest loses, and touches nothing else."""

import copy
import math
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import sharpmin as sm
from sharpmin.optim import L2, Context, Elementwise, Layerwise, LInf

FRACTION = {torch.bfloat16: 7, torch.float16: 10}  # bits
LEAST = {torch.bfloat16: -126, torch.float16: -14}  # exponents of the smallest normal numbers
both = pytest.mark.parametrize("dtype", FRACTION)


def ulp(x, dtype):
    """The distance of the numbers around x."""
    x = np.maximum(np.abs(x), 2.0 ** LEAST[dtype])
    return 2.0 ** (np.floor(np.log2(x)) - FRACTION[dtype])


def stochastic(*weights, rho, rounding="stochastic", **options):
    options = {"telemetry": True} | options  # so that gain and radius are measured in every step
    return sm.SAM(torch.optim.SGD(weights, lr=0.0), rho=rho, rounding=rounding, **options)


def climb(opt, gradients):
    """e of one step, in float64, per parameter."""
    weights = [p for group in opt.param_groups for p in group["params"]]
    for p, g in zip(weights, gradients, strict=True):
        p.grad = g.clone()
    with opt.perturbed():
        moves = [p.detach().double() for p in weights]
        for p, g in zip(weights, gradients, strict=True):
            p.grad = g.clone()
    opt.step()
    return [inside - p.detach().double() for inside, p in zip(moves, weights, strict=True)]


def many(dtype, n=1000, value=1.0):
    return nn.Parameter(torch.full((n,), value, dtype=dtype)), torch.ones(n, dtype=dtype)


def norm_of(geometry, w, e):
    return float(geometry.at([w], [e], Context()).norm([w], [e]))


@both
@pytest.mark.parametrize(
    ("geometry", "norm"),  # norm: of a vector of ones
    [(L2(), 1000**0.5), (LInf(), 1.0), (Elementwise(0.0), 1000**0.5), (Layerwise(), 1.0)],
    ids=str,
)
def test_a_thousand_ones(path, dtype, geometry, norm):
    """Each moves by a whole unit u with probability p = m / u, so <e, g> / asked is K / (n p), with K binomial (n, p)."""
    steps, n, u = 100, 1000, 2.0 ** -FRACTION[dtype]
    m = 0.2 * u
    w, g = many(dtype)
    opt = stochastic(w, rho=m * norm, geometry=geometry)
    gains, lengths = [], []
    for _ in range(steps):
        (e,) = climb(opt, [g])
        gains.append(opt.last.gain)
        lengths.append(e.norm().item() / (m * n**0.5))
        assert opt.last.gain == pytest.approx(e.sum().item() / (n * m), rel=1e-5)
        assert opt.last.radius == pytest.approx(norm_of(geometry, w.detach(), e.float()), rel=1e-5)
    assert np.mean(gains) == pytest.approx(1.0, abs=5 * math.sqrt(0.8 / (0.2 * n * steps)))
    assert np.std(gains) == pytest.approx(math.sqrt(0.8 / (0.2 * n)), rel=0.4)
    assert min(lengths) > 1.9  # 1 / sqrt(p) = 2.24 on average: the price


@both
def test_every_weight_moves_by_the_right_amount_in_the_mean(path, dtype):
    """|e_i - m_i| < u_i with variance <= u_i^2 / 4, whatever the sign and size of weights and gradients."""
    steps, copies = 50, 20  # a thousand moves of each weight
    random = np.random.default_rng(2)
    w = nn.Parameter(torch.tensor(random.normal(size=48) * 2.0 ** random.integers(-4, 4, 48)).to(dtype))
    g = torch.tensor(random.normal(size=48)).to(dtype)
    with torch.no_grad():
        w[:4] = torch.tensor([1.0, -1.0, 1.0, 2.0])  # powers of 2: the unit below is half of the unit above
        g[:5] = torch.tensor([-1.0, -1.0, 1.0, -1.0, 0.0])
    alike, slopes = nn.Parameter(w.detach().repeat(copies)), g.repeat(copies)
    opt = stochastic(alike, rho=0.02 * copies**0.5)
    moves = np.concatenate([climb(opt, [slopes])[0].numpy().reshape(copies, 48) for _ in range(steps)])
    was, direction = w.detach().double().numpy(), g.double().numpy()
    m = 0.02 * direction / np.linalg.norm(direction)
    u = ulp(np.maximum(abs(was), abs(was + m)), dtype)
    assert (abs(moves.mean(0) - m) <= 5 * u / 2 / len(moves) ** 0.5 + 1e-6 * abs(was)).all()
    assert (abs(moves - m) < u * (1 + 1e-6)).all()
    assert not moves[:, 4].any()
    assert (moves.std(0)[:4] > 0).all()


@both
@pytest.mark.parametrize("units", [1, 3])
def test_a_move_that_the_format_holds_is_exact(path, dtype, units):
    w, g = nn.Parameter(torch.ones(1, dtype=dtype)), torch.ones(1, dtype=dtype)
    opt = stochastic(w, rho=units * 2.0 ** -FRACTION[dtype])
    assert {climb(opt, [g])[0].item() for _ in range(50)} == {units * 2.0 ** -FRACTION[dtype]}


@both
def test_below_the_smallest_normal_number_too(path, dtype):
    """Weights of 0 and a fifth of the smallest distance between numbers, 6e-8 in float16."""
    steps, n, u = 20, 1000, ulp(0.0, dtype)
    w, g = many(dtype, n, 0.0)
    opt = stochastic(w, rho=0.2 * u * n**0.5)
    mean = np.mean([climb(opt, [g])[0].mean().item() for _ in range(steps)])
    assert mean / (0.2 * u) == pytest.approx(1.0, abs=5 * math.sqrt(0.8 / (0.2 * n * steps)))


@both
def test_what_is_finite_stays_finite(path, dtype):
    """The largest numbers, and a move of a hundredth of their unit: nearest leaves them where they are."""
    top = float(torch.finfo(dtype).max)
    w, g = many(dtype, 1000, top)
    w.data[::2] *= -1
    (e,) = climb(stochastic(w, rho=0.01 * ulp(top, dtype) * 1000**0.5), [g * w.detach().sign()])
    assert torch.isfinite(e).all()


@both
def test_weights_that_are_not_finite_stay_what_they_are(path, dtype, bits):
    values = [math.inf, -math.inf, math.nan, 0.0, -0.0, 1.0]
    w, g = nn.Parameter(torch.tensor(values * 50, dtype=dtype)), torch.ones(300, dtype=dtype)
    opt, was = stochastic(w, rho=0.01), bits(w)
    w.grad = g
    with opt.perturbed():
        inside = w.detach().reshape(50, 6)
        assert (inside[:, 0] == math.inf).all()
        assert (inside[:, 1] == -math.inf).all()
        assert inside[:, 2].isnan().all()
        assert torch.isfinite(inside[:, 3:]).all()
    assert bits(w) == was


@both
def test_the_way_back_and_the_global_random_state(path, dtype, bits):
    w = nn.Parameter(torch.randn(500).to(dtype))
    opt, was, state = stochastic(w, rho=0.01), bits(w), torch.get_rng_state()
    gradients = torch.randn(20, 500, generator=torch.Generator().manual_seed(1)).to(dtype)
    moved = [float(climb(opt, [g])[0].norm()) for g in gradients]
    assert min(moved) > 0
    assert bits(w) == was
    assert torch.equal(torch.get_rng_state(), state)


@both
def test_the_noise_belongs_to_the_step(path, dtype):
    """The same in every run, also a resumed one and a copy; another in the next step, and for the next tensor."""
    g = torch.ones(200, dtype=dtype)

    def fresh():
        return stochastic(*(many(dtype, 200)[0] for _ in range(2)), rho=0.2 * 2.0 ** -FRACTION[dtype] * 20)

    opt, resumed = fresh(), fresh()
    torch.manual_seed(5)
    run = [torch.stack(climb(opt, [g, g])) for _ in range(6)]
    torch.manual_seed(6)
    other = fresh()
    assert all(torch.equal(torch.stack(climb(other, [g, g])), e) for e in run[:3])
    resumed.load_state_dict(copy.deepcopy(other.state_dict()))
    for again in (resumed, copy.deepcopy(other), other):
        assert all(torch.equal(torch.stack(climb(again, [g, g])), e) for e in run[3:])
    assert len({e.numpy().tobytes() for pair in run for e in pair}) == 12


def test_micro_batches_have_noise_of_their_own(path):
    w, g = many(torch.bfloat16)
    opt, seen = stochastic(w, rho=0.05, scope="microbatch"), []
    for _ in range(2):
        with opt.clean():
            w.grad = g.clone()
        with opt.perturbed():
            seen.append(w.detach().clone())
            w.grad = g.clone()
    assert not torch.equal(*seen)


@pytest.mark.parametrize("dtypes", [(torch.float32,), (torch.float64, torch.float32), (torch.float32, torch.bfloat16)], ids=str)
@pytest.mark.parametrize("geometry", [L2(), Elementwise()], ids=str)
def test_float32_weights_do_not_notice(path, dtypes, geometry, bits):
    """Also those beside bfloat16 ones."""
    torch.manual_seed(4)
    start, gradients = ([torch.randn(50).to(d) for d in dtypes] for _ in range(2))
    ends = []
    for rounding in ("nearest", "stochastic"):
        opt = stochastic(*(nn.Parameter(w.clone()) for w in start), rho=1.0, rounding=rounding, geometry=geometry)
        ends.append([e for e, w in zip(climb(opt, gradients), start, strict=True) if w.dtype is not torch.bfloat16])
    assert bits(ends[0]) == bits(ends[1])


@both
@pytest.mark.parametrize(("rounding", "expected"), [("nearest", 1), ("stochastic", 0)])
def test_warnings(path, dtype, rounding, expected):
    """Rounding to nearest moves nothing, and says so once."""
    w, g = many(dtype)
    opt = stochastic(w, rho=0.2 * 2.0 ** -FRACTION[dtype] * 1000**0.5, rounding=rounding)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        gains = [(climb(opt, [g]), opt.last.gain)[1] for _ in range(5)]
    assert len(seen) == expected
    assert (max(gains) == 0.0) is (rounding == "nearest")


def test_sparse_gradients_keep_their_ascent(path):
    """An embedding in bfloat16: the rows that are drawn move as dense weights would."""
    w, _ = many(torch.bfloat16)
    w = nn.Parameter(w.detach().reshape(1000, 1))
    g = torch.sparse_coo_tensor(torch.arange(500)[None], torch.ones(500, 1).bfloat16(), (1000, 1), check_invariants=True)
    opt = stochastic(w, rho=0.05)
    w.grad = g
    with opt.perturbed():
        e = w.detach().double() - 1
    p = 0.05 / 500**0.5 * 2**7
    assert opt.last.gain == pytest.approx(1.0, abs=5 * math.sqrt((1 - p) / (p * 500)))
    assert not e[500:].any()


@pytest.mark.parametrize("rounding", ["down", "", None, True])
def test_an_unknown_rounding_is_refused(rounding):
    with pytest.raises(ValueError, match="rounding must be one of 'nearest', 'stochastic'"):
        stochastic(many(torch.bfloat16)[0], rho=0.1, rounding=rounding)
