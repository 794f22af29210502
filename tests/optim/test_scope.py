"""A9: one perturbation a step, or one for each micro-batch; any parts, scalers, micro-batches that overflow."""

import itertools
import math
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.amp import GradScaler

import sharpmin as sm

RHO, LR, MOMENTUM = 0.3, 0.05, 0.6
ETA, WEIGHT, THETA = 0.1, 0.4, 0.2
OFF = GradScaler("cpu", enabled=False)


class Batches:
    """f_i(w) = (0.5 |A_i w - b_i|^2 + sum cos w) / m for w = (two weights, one weight): micro-batches of one mean loss."""

    def __init__(self, m, dtype=torch.float64):
        draw = np.random.default_rng(m)
        self.a, self.b, self.m = draw.normal(size=(m, 4, 3)), draw.normal(size=(m, 4)), m
        self.start = draw.normal(size=3)
        self.p, self.q = (nn.Parameter(torch.tensor(part, dtype=dtype)) for part in (self.start[:2], self.start[2:]))

    def loss(self, i):
        w = torch.cat([self.p, self.q])
        a, b = (torch.tensor(part[i], dtype=w.dtype) for part in (self.a, self.b))
        return (0.5 * (a @ w - b).square().sum() + w.cos().sum()) / self.m

    def gradient(self, i, w):
        return (self.a[i].T @ (self.a[i] @ w - self.b[i]) - np.sin(w)) / self.m

    @property
    def w(self):
        return torch.cat([self.p, self.q]).detach().double().numpy()

    def sam(self, base=torch.optim.SGD, rho=RHO, scope="microbatch", momentum=MOMENTUM, **options):
        return sm.SAM(base([self.p, self.q], lr=LR, momentum=momentum), rho, scope=scope, **options)


def step(opt, f, scaler=OFF, *, guard=False, spoil=None, zero=None):
    """One step of micro-batches; `spoil` puts an inf into the gradients of that (micro-batch, pass)."""
    (zero or opt.zero_grad)()
    for i in range(f.m):
        for number in (1, 2):
            if number == 2 and guard and not opt.needs_second_pass:
                continue
            with opt.clean() if number == 1 else opt.perturbed(scaler):
                scaler.scale(f.loss(i)).backward()
                if spoil == (i + 1, number):
                    f.p.grad[0] = math.inf
    scaler.step(opt)
    scaler.update()


def l2(w, g):
    return g / np.linalg.norm(g)


def elementwise(w, g):
    t = np.abs(w) + ETA
    return t**2 * g / np.linalg.norm(t * g)


def clipped(g, big):
    return g + min(1, THETA * np.linalg.norm(g) / np.linalg.norm(big - g)) * (big - g)


GEOMETRIES = {"l2": (sm.L2(), l2), "elementwise": (sm.Elementwise(ETA), elementwise)}
DESCENTS = {
    "perturbed": (sm.Perturbed(), lambda g, big: big),
    "mix": (sm.Mix(WEIGHT), lambda g, big: (1 - WEIGHT) * g + WEIGHT * big),
    "clipped": (sm.ClippedDifference(THETA), clipped),
}
PARTS = pytest.mark.parametrize(("geometry", "descent"), list(itertools.product(GEOMETRIES, DESCENTS)))


def oracle(f, steps, up, combine):
    w, velocity, visited = f.start, 0.0, []
    for _ in range(steps):
        d = 0.0
        for i in range(f.m):
            g = f.gradient(i, w)
            d = d + combine(g, f.gradient(i, w + RHO * up(w, g)))
        velocity = MOMENTUM * velocity + d
        w = w - LR * velocity
        visited.append(w)
    return visited


@pytest.mark.parametrize("m", [1, 2, 3, 5])
@PARTS
def test_ten_steps_against_numpy(path, m, geometry, descent):
    f = Batches(m)
    opt = f.sam(geometry=GEOMETRIES[geometry][0], descent=DESCENTS[descent][0])
    for expected in oracle(f, 10, GEOMETRIES[geometry][1], DESCENTS[descent][1]):
        step(opt, f)
        assert f.w == pytest.approx(expected, rel=1e-12, abs=1e-12)
        assert opt.last.stepped
        assert opt.last.passes == 2


@pytest.mark.parametrize(("scope", "expected"), [("global", 0.38), ("microbatch", 0.41)])
def test_golden(path, scope, expected):
    x = nn.Parameter(torch.tensor(0.5, dtype=torch.float64))
    opt = sm.SAM(torch.optim.SGD([x], lr=0.1), rho=0.1, scope=scope)
    losses = [lambda: 0.75 * (x - 1) ** 2, lambda: 0.25 * (x + 3) ** 2]
    for together in [losses] if scope == "global" else [[f] for f in losses]:
        for around in (opt.clean(), opt.perturbed()):
            with around:
                for f in together:
                    f().backward()
    opt.step()
    assert x.item() == pytest.approx(expected, abs=1e-12)


@PARTS
@pytest.mark.parametrize("telemetry", [False, True])
@pytest.mark.parametrize("scale", [65536.0, 2.0**-10])
def test_a_scaler_changes_no_bit(*, path, bits, geometry, descent, telemetry, scale):
    f, g = Batches(3, torch.float32), Batches(3, torch.float32)
    parts = {"geometry": GEOMETRIES[geometry][0], "descent": DESCENTS[descent][0]}
    opt, plain = f.sam(telemetry=telemetry, **parts), g.sam(**parts)
    scaler = GradScaler("cpu", init_scale=scale)
    for _ in range(4):
        step(opt, f, scaler)
        step(plain, g)
        assert bits([f.p, f.q]) == bits([g.p, g.q])
    assert bits(opt.state_dict()) == bits(plain.state_dict())
    assert opt.last.dual_norm == plain.last.dual_norm
    assert scaler.get_scale() == scale


def zeros(f):
    """As scripts that do not go through the optimizer clear gradients."""
    for p in (f.p, f.q):
        if p.grad is not None:
            p.grad.zero_()


CLEARS = {
    "opt": lambda opt, f: opt.zero_grad,
    "opt, to zeros": lambda opt, f: lambda: opt.zero_grad(set_to_none=False),
    "by hand": lambda opt, f: lambda: zeros(f),
}


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("spoil", [None, *itertools.product([1, 2], [1, 2])], ids=str)
@pytest.mark.parametrize("clear", CLEARS)
@pytest.mark.parametrize("ascent", [sm.Gradient(), sm.Ema(0.3)], ids=str)
def test_an_overflow_anywhere_skips_the_whole_step(*, bits, scaled, spoil, clear, ascent):
    f, g = Batches(2, torch.float32), Batches(2, torch.float32)
    opt, twin = f.sam(ascent=ascent), g.sam(ascent=ascent)
    scaler = GradScaler("cpu", init_scale=65536.0, enabled=scaled)
    step(opt, f, scaler)
    step(twin, g)
    was, state = bits([f.p, f.q]), bits(opt.state_dict())
    if spoil:
        step(opt, f, scaler, spoil=spoil, zero=CLEARS[clear](opt, f))
        assert opt.last.stepped is False
        assert bits([f.p, f.q]) == was
        assert bits(opt.state_dict()) == state
    assert scaler.get_scale() == ((32768.0 if spoil else 65536.0) if scaled else 1.0)
    for _ in range(2):
        step(opt, f, scaler, zero=CLEARS[clear](opt, f))
        step(twin, g)
        assert opt.last.stepped
        assert bits([f.p, f.q]) == bits([g.p, g.q])
    assert bits(opt.state_dict()) == bits(twin.state_dict())


def skips_an_overflow(opt, f, bits, spoil, scaled):
    """A good step, and one that overflows, of which nothing is left but a halved scale."""
    scaler = GradScaler("cpu", init_scale=65536.0, enabled=scaled)
    step(opt, f, scaler)
    was, state = bits([f.p, f.q]), bits(opt.state_dict())
    step(opt, f, scaler, spoil=spoil)
    assert opt.last.stepped is False
    assert bits([f.p, f.q]) == was
    assert bits(opt.state_dict()) == state
    assert scaler.get_scale() == (32768.0 if scaled else 1.0)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("spoil", list(itertools.product([1, 2], [1, 2])), ids=str)
def test_an_overflow_on_an_accelerator(*, accelerator, bits, scaled, spoil):
    f = Batches(2, torch.float32)
    skips_an_overflow(f.sam(skip_nonfinite=True), f, bits, spoil, scaled)


def accumulate(opt, f):
    opt.zero_grad()
    for i in range(f.m):
        f.loss(i).backward()
    opt.step()


@pytest.mark.parametrize("guard", [False, True])
@pytest.mark.parametrize("descent", DESCENTS)
@pytest.mark.parametrize("rho", [0.0, sm.rho.Tail(RHO, start=100)], ids=str)
def test_rho_zero_is_plain_accumulation_bit_for_bit(*, path, bits, guard, descent, rho):
    f, g = Batches(3), Batches(3)
    opt = f.sam(rho=rho, descent=DESCENTS[descent][0])
    plain = torch.optim.SGD([g.p, g.q], lr=LR, momentum=MOMENTUM)
    for _ in range(5):
        step(opt, f, guard=guard)
        accumulate(plain, g)
        assert bits([f.p, f.q]) == bits([g.p, g.q])
        assert opt.last.passes == (1 if guard else 2)  # a block that runs counts
    assert bits(opt.base.state_dict()["state"]) == bits(plain.state_dict()["state"])


@pytest.mark.parametrize("descent", DESCENTS)
@pytest.mark.parametrize("flat", [0, 1, 2])
@pytest.mark.parametrize("guard", [False, True])
def test_a_micro_batch_with_zero_gradients_adds_nothing(*, path, descent, flat, guard):
    f = Batches(3)
    f.a[flat], f.loss = 0.0, lambda i, loss=f.loss: (f.p.sum() + f.q.sum()) * 0 if i == flat else loss(i)
    opt = f.sam(descent=DESCENTS[descent][0])
    combine, w = DESCENTS[descent][1], f.start
    step(opt, f, guard=guard)
    grads = [(g, f.gradient(i, w + RHO * l2(w, g))) for i in range(3) if i != flat for g in [f.gradient(i, w)]]
    assert f.w == pytest.approx(w - LR * sum(combine(g, big) for g, big in grads), rel=1e-12)


def test_ema_sees_every_micro_batch(path):
    """Each is a t of the average; here against the recursion in NumPy."""
    f = Batches(2)
    opt, a, w, velocity = f.sam(ascent=sm.Ema(0.3)), 0.0, f.start, 0.0
    for _ in range(5):
        d = 0.0
        for i in range(2):
            a = 0.7 * a + 0.3 * f.gradient(i, w)
            d = d + f.gradient(i, w + RHO * a / np.linalg.norm(a))
        velocity = MOMENTUM * velocity + d
        w = w - LR * velocity
        step(opt, f)
        assert f.w == pytest.approx(w, rel=1e-12)


def test_the_scope_shows():
    f = Batches(1)
    opt = f.sam()
    assert "scope='microbatch'" in repr(opt)
    assert opt.state_dict()["param_groups"][0]["sharpmin_scope"] == "microbatch"
    assert f.sam(scope="global").state_dict()["param_groups"][0]["sharpmin_scope"] == "global"


@pytest.mark.parametrize("scopes", [("global", "microbatch"), ("microbatch", "global")], ids=str)
@pytest.mark.parametrize("groups", [1, 2])
def test_a_checkpoint_of_another_scope_warns_once(scopes, groups):
    """And is loaded all the same."""

    def make(scope, rho):
        ps = [nn.Parameter(torch.ones(1)) for _ in range(groups)]
        return sm.SAM(torch.optim.SGD([{"params": [p]} for p in ps], lr=0.1), rho, scope=scope)

    saved, live = make(scopes[0], 0.2).state_dict(), make(scopes[1], 0.1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        live.load_state_dict(saved)
    assert [w.category for w in caught] == [UserWarning]
    assert f'"{scopes[0]}"' in str(caught[0].message)
    assert f'"{scopes[1]}"' in str(caught[0].message)
    assert caught[0].filename == __file__
    assert [g["rho"] for g in live.param_groups] == [0.2] * groups
    assert [g["sharpmin_scope"] for g in live.state_dict()["param_groups"]] == [scopes[1]] * groups
    make(scopes[0], 0.1).load_state_dict(saved)


@pytest.mark.parametrize("scope", ["rank", "bogus", "", None, "Global", ["global"], 1])
def test_what_is_no_scope(scope):
    with pytest.raises(ValueError, match="scope="):
        Batches(1).sam(scope=scope)
