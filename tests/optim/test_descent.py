"""The gradient that the base optimizer sees: limits that are exact, guarantees, scalers, sparse and missing gradients."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.amp import GradScaler

import sharpmin as sm
from sharpmin.optim import Context
from sharpmin.optim._numeric.tensors import combine

STEPS = 8


def base(f):
    return torch.optim.AdamW(f.net.parameters(), lr=0.02)


def run(f, opt, take):
    for _ in range(STEPS):
        take(opt, f)


def bare(opt, f):
    opt.zero_grad()
    f()
    opt.step()


@pytest.mark.parametrize("geometry", [sm.L2(), sm.Elementwise(0.1)], ids=str)
@pytest.mark.parametrize(
    ("descent", "rho"),
    [(sm.Mix(1.0), 0.3), (sm.Mix(1), 0.3), (sm.ClippedDifference(0.9), 1e-3), (sm.ClippedDifference(0.5), 1e-4)],
    ids=str,
)
def test_sam_bit_for_bit(*, path, training, door, bits, descent, rho, geometry):
    """Mix(1), and a clip that does not bite."""
    f, g = training(), training()
    opt, other = sm.SAM(base(f), rho, geometry=geometry, descent=descent), sm.SAM(base(g), rho, geometry=geometry)
    run(f, opt, door)
    run(g, other, door)
    assert bits(f.weights) == bits(g.weights)
    assert bits(opt.state_dict()) == bits(other.state_dict())


@pytest.mark.parametrize("descent", [sm.Mix(0.0), sm.Mix(0)], ids=str)
def test_mix_zero_is_the_base_bit_for_bit(path, training, door, bits, descent):
    f, g = training(), training()
    opt, plain = sm.SAM(base(f), rho=0.3, descent=descent), base(g)
    run(f, opt, door)
    run(g, plain, bare)
    assert bits(f.weights) == bits(g.weights)
    assert bits(opt.base.state_dict()["state"]) == bits(plain.state_dict()["state"])


@pytest.mark.parametrize("descent", [sm.Mix(0.5), sm.ClippedDifference(0.5)], ids=str)
def test_rho_zero_is_the_base_bit_for_bit(path, training, door, bits, descent):
    f, g = training(), training()
    run(f, sm.SAM(base(f), rho=0.0, descent=descent), door)
    run(g, base(g), bare)
    assert bits(f.weights) == bits(g.weights)


FLOATS = st.floats(-(2.0**100), 2.0**100, width=32)
PAIRS = st.lists(st.tuples(FLOATS, FLOATS), min_size=1, max_size=6)


def columns(pairs, dtype=torch.float32):
    return [[torch.tensor(part, dtype=dtype)] for part in zip(*pairs, strict=True)]


def descended(rule, clean, perturbed):
    a, b, _ = rule.coefficients([], clean, perturbed, {}, Context())
    return combine(clean, perturbed, a, b)


@given(PAIRS)
def test_the_ends_are_exact(pairs):
    g, big = columns(pairs)
    assert torch.equal(descended(sm.Mix(1.0), g, big)[0], big[0])
    assert torch.equal(descended(sm.Mix(0.0), g, big)[0], g[0])
    assert torch.equal(descended(sm.ClippedDifference(0.5), big, big)[0], big[0])


@given(PAIRS, st.floats(0.01, 0.99))
def test_the_clip_bounds_what_is_added(pairs, theta):
    g, big = columns(pairs, torch.float64)
    d = descended(sm.ClippedDifference(theta), g, big)[0]
    size, change = np.linalg.norm(g[0]), np.linalg.norm(big[0] - g[0])
    share = min(1.0, theta * size / change) if change > 0 else 1.0
    scale = size + np.linalg.norm(big[0])
    assert d.numpy() == pytest.approx((g[0] + share * (big[0] - g[0])).numpy(), rel=1e-12, abs=1e-12 * scale)


NUMBERS = st.floats(-5, 5).filter(lambda x: abs(x) > 1e-3)


@given(st.lists(NUMBERS, min_size=6, max_size=6), st.floats(0.01, 50), st.floats(0.01, 0.99), st.sampled_from(["l2", "linf"]))
def test_the_guarantee_whatever_the_function(numbers, rho, theta, norm):
    """<d, g> >= (1 - theta) ||g||^2 and ||d - g|| <= theta ||g||, for SAM steps on saddles, maxima and minima alike."""
    a, b, c, d, x, y = numbers
    w = nn.Parameter(torch.tensor([x, y], dtype=torch.float64))
    geometry = sm.L2() if norm == "l2" else sm.LInf()
    opt = sm.SAM(torch.optim.SGD([w], lr=1e-3), rho, geometry=geometry, descent=sm.ClippedDifference(theta))
    for _ in range(3):
        seen = []
        for block in (torch.enable_grad(), opt.perturbed()):
            with block:
                w.grad = None
                (a * w[0] ** 2 + b * w[1] ** 2 + c * w[0] * w[1] + torch.sin(d * w[0])).backward()
                seen.append(w.grad.clone())
        g, step = seen[0], w.grad
        assert float(step @ g) >= (1 - theta) * float(g @ g) * (1 - 1e-9)
        assert float((step - g).norm()) <= theta * float(g.norm()) * (1 + 1e-9)
        opt.step()


def scaled_step(opt, f, scaler, *, unscale_first=False, clip=None, spoil=None):
    opt.zero_grad()
    for i in (0, 1):
        with opt.perturbed(scaler) if i else torch.enable_grad():
            scaler.scale(nn.functional.cross_entropy(f.net(f.x), f.y)).backward()
            if spoil == i:
                f.net[2].bias.grad[0] = math.inf
            if unscale_first and not i:
                scaler.unscale_(opt)
    if clip is not None:
        if not unscale_first:
            scaler.unscale_(opt)
        nn.utils.clip_grad_norm_(f.net.parameters(), clip)
    scaler.step(opt)
    scaler.update()


def plain_step(opt, f, clip=None):
    opt.zero_grad()
    f()
    with opt.perturbed():
        f()
    if clip is not None:
        nn.utils.clip_grad_norm_(f.net.parameters(), clip)
    opt.step()


RULES = [sm.Perturbed(), sm.Mix(0.4), sm.Mix(1.7), sm.ClippedDifference(0.2)]


@pytest.mark.parametrize("descent", RULES, ids=str)
@pytest.mark.parametrize("unscale_first", [False, True])
@pytest.mark.parametrize("clip", [None, 0.1])
@pytest.mark.parametrize("spoil", [None, 0, 1])
def test_a_scaler_changes_nothing(*, path, training, bits, descent, unscale_first, clip, spoil):
    """A power of two scales without rounding; a step that overflows in either pass is as if it had not been."""
    f, g, scaler = training(), training(), GradScaler("cpu", init_scale=65536.0)
    opt, plain = (sm.SAM(base(h), rho=0.3, descent=descent) for h in (f, g))
    for step in range(4):
        bad = spoil if step == 2 else None
        scaled_step(opt, f, scaler, unscale_first=unscale_first, clip=clip, spoil=bad)
        assert opt.last.stepped is (bad is None)
        if bad is None:
            plain_step(plain, g, clip)
        assert bits(f.weights) == bits(g.weights)
    assert bits(opt.state_dict()) == bits(plain.state_dict())
    assert scaler.get_scale() == (65536.0 if spoil is None else 32768.0)


BY_HAND = [  # what p and q of gradients (3, 4) at w and (1, 2) at w + e step with
    (sm.Mix(0.25), lambda g, big: 0.75 * g + 0.25 * big),
    (sm.ClippedDifference(0.3), lambda g, big: g + min(1, 0.3 * np.linalg.norm(g) / np.linalg.norm(big - g)) * (big - g)),
]


@pytest.mark.parametrize(("descent", "rule"), BY_HAND, ids=["mix", "clipped"])
@pytest.mark.parametrize("kept", [(0, 1), (0,), (1,)], ids=str)
def test_a_gradient_in_one_pass_only(path, descent, rule, kept):
    """r has one in the passes `kept`: not in the first means 0 there, not in the second means no step, not even decay."""
    p, r = (nn.Parameter(torch.full((1,), 5.0, dtype=torch.float64)) for _ in range(2))
    opt = sm.SAM(torch.optim.SGD([p, r], lr=0.1, weight_decay=0.5), rho=0.1, descent=descent)

    def pass_number(i, values):
        p.grad = torch.full_like(p, values[0])
        r.grad = torch.full_like(r, values[1]) if i in kept else None

    pass_number(0, (3.0, 4.0))
    with opt.perturbed():
        pass_number(1, (1.0, 2.0))
    opt.step()
    steps = 1 in kept
    g, big = np.array([3.0, 4.0 * (0 in kept)]), np.array([1.0, 2.0])
    d = rule(g, big) if steps else np.append(rule(g[:1], big[:1]), 0.0)
    assert p.item() == pytest.approx(5 - 0.1 * (d[0] + 2.5), rel=1e-12)
    assert r.item() == pytest.approx(5 - 0.1 * (d[1] + 2.5) if steps else 5.0, rel=1e-12)


@pytest.mark.parametrize("descent", [sm.Mix(0.4), sm.ClippedDifference(0.2)], ids=str)
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.SparseAdam, torch.optim.Adagrad])
@pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # of torch's own Adagrad
def test_sparse_is_what_dense_is(*, path, descent, scaled, optimizer):
    """All rows are drawn, so that the lazy rules of the sparse optimizers do not matter."""
    ends = []
    for sparse in (True, False):
        torch.manual_seed(3)
        table = nn.Embedding(5, 2, sparse=sparse, dtype=torch.float32 if scaled else torch.float64)
        dense = {torch.optim.SparseAdam: torch.optim.Adam}.get(optimizer, optimizer)
        options = (
            {"lr": 0.1} if dense is torch.optim.SGD else {"lr": 0.1, "eps": 1e-14}
        )  # which the two Adams place differently
        opt = sm.SAM((optimizer if sparse else dense)(table.parameters(), **options), rho=0.3, descent=descent)
        scaler, rows = GradScaler("cpu", enabled=scaled), torch.tensor([0, 1, 2, 3, 4, 1])
        for _ in range(4):
            opt.zero_grad()
            scaler.scale(table(rows).cos().sum()).backward()
            with opt.perturbed(scaler):
                scaler.scale(table(rows).cos().sum()).backward()
            scaler.step(opt)
            scaler.update()
        ends.append(table.weight.detach().double().numpy())
    assert ends[0] == pytest.approx(ends[1], rel=1e-4 if scaled else 1e-6)


@pytest.mark.parametrize(("descent", "expected"), [(sm.Mix(0.5), 0.0), (sm.ClippedDifference(0.5), -0.5)], ids=str)
def test_gradients_whose_difference_leaves_float16(path, descent, expected):
    """g, G and d are finite; G - g is not."""
    w = nn.Parameter(torch.ones(2, dtype=torch.float16))
    opt = sm.SAM(torch.optim.SGD([w], lr=0.0), rho=0.5, descent=descent)
    w.grad = torch.tensor([-4e4, 0.0], dtype=torch.float16)
    with opt.perturbed():
        w.grad = torch.tensor([4e4, 0.0], dtype=torch.float16)
    assert w.grad.tolist() == pytest.approx([4e4 * expected, 0.0], abs=40)
    opt.step()
    assert opt.last.stepped


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize(
    ("descent", "expected"), [(sm.Perturbed(), 0.41), (sm.Mix(0.5), 0.405), (sm.ClippedDifference(0.1), 0.41)], ids=str
)
def test_micro_batches_of_their_own(path, descent, expected, scaled):
    """A9: gradients -0.75 and 1.75 at 0.5, -0.9 and 1.8 at 0.4 and 0.6. Clipped to a tenth: -0.825 and 1.8."""
    x = nn.Parameter(torch.tensor([0.5], dtype=torch.float32 if scaled else torch.float64))
    opt = sm.SAM(torch.optim.SGD([x], lr=0.1), rho=0.1, descent=descent, scope="microbatch")
    scaler = GradScaler("cpu", enabled=scaled)
    for f in (lambda: 0.75 * (x - 1) ** 2, lambda: 0.25 * (x + 3) ** 2):
        with opt.clean():
            scaler.scale(f().sum()).backward()
        with opt.perturbed(scaler):
            scaler.scale(f().sum()).backward()
    scaler.step(opt)
    scaler.update()
    clipped = isinstance(descent, sm.ClippedDifference)
    assert x.item() == pytest.approx(0.5 - 0.1 * (-0.825 + 1.8) if clipped else expected, abs=1e-6 if scaled else 1e-12)


BAD = [
    (sm.ClippedDifference, [0.0, 1.0, -0.5, 2, math.nan, math.inf], ValueError),
    (sm.ClippedDifference, ["0.5", None, True], TypeError),
    (sm.Mix, [-0.1, math.nan, math.inf], ValueError),
    (sm.Mix, ["0.5", None, True], TypeError),
]


@pytest.mark.parametrize(("kind", "value", "error"), [(kind, v, error) for kind, values, error in BAD for v in values])
def test_a_bad_number_is_refused(kind, value, error):
    with pytest.raises(error, match=f"{kind.__name__}: "):
        kind(value)
