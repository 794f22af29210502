"""`Ema`: what it remembers, when it learns, and how that travels."""

import copy
import io
import math
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.amp import GradScaler

import sharpmin as sm

THETA = 0.3


def build(f, rho=0.1, base=torch.optim.Adam, **options):
    return sm.SAM(base(f.net.parameters(), lr=0.05), rho=rho, ascent=sm.Ema(THETA), **options)


def train(opt, f, steps, take):
    for _ in range(steps):
        take(opt, f)
    return opt


def averages(opt):
    return opt.state_dict()["sharpmin"]["ascent"]


def through_disk(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def test_the_average_of_the_clean_gradients_is_in_the_state_dict(path, training, block_door):
    f, expected = training(), None
    opt = build(f)
    for _ in range(4):
        grads = [g.numpy() for g in torch.autograd.grad(nn.functional.cross_entropy(f.net(f.x), f.y), f.net.parameters())]
        before = expected or [np.zeros_like(g) for g in grads]
        expected = [(1 - THETA) * a + THETA * g for a, g in zip(before, grads, strict=True)]
        block_door(opt, f)
    saved = averages(opt)
    assert list(saved) == [0, 1, 2, 3]
    for i, a in enumerate(expected):
        assert saved[i].numpy() == pytest.approx(a, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("store", [copy.deepcopy, through_disk])
def test_resumed_is_unbroken(*, path, training, door, store, bits):
    whole, half, rest = training(), training(), training()
    unbroken = train(build(whole), whole, 10, door)
    opt = train(build(half), half, 5, door)
    saved = store({"net": half.net.state_dict(), "opt": opt.state_dict()})
    was = bits(saved["opt"]["sharpmin"])
    rest.net.load_state_dict(saved["net"])
    resumed = build(rest)
    resumed.load_state_dict(saved["opt"])
    train(resumed, rest, 5, door)
    assert bits(rest.weights) == bits(whole.weights)
    assert bits(resumed.state_dict()) == bits(unbroken.state_dict())
    assert bits(saved["opt"]["sharpmin"]) == was  # what was saved is not what goes on


@pytest.mark.parametrize("twins", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))], ids=["deepcopy", "pickle"])
def test_copies_go_on_alike_and_apart(training, door, twins, bits):
    f = training()
    opt = train(build(f), f, 3, door)
    g, twin = twins((f, opt))
    train(opt, f, 4, door)
    before = bits(f.weights)
    train(twin, g, 4, door)
    assert bits(g.weights) == bits(f.weights) == before
    assert bits(twin.state_dict()) == bits(opt.state_dict())


def test_groups_in_any_order_keep_their_own_average(training, block_door, bits):
    """The average of a parameter is found by its place in the groups, as the base's state is."""
    f = training()

    def grouped():
        first, second = f.net[0].parameters(), f.net[2].parameters()
        base = torch.optim.SGD([{"params": list(second), "rho": 0.2}, {"params": list(first)}], lr=0.1)
        return sm.SAM(base, rho=0.1, ascent=sm.Ema(THETA))

    opt = train(grouped(), f, 2, block_door)
    assert [averages(opt)[i].shape for i in range(4)] == [p.shape for g in opt.param_groups for p in g["params"]]
    other = grouped()
    other.load_state_dict(through_disk(opt.state_dict()))
    assert bits(other.state_dict()) == bits(opt.state_dict())


def spoiling(f, at, value):
    """`f`, with a gradient spoiled on the pass number `at`."""
    start = f.forwards

    def backward():
        loss = f()
        if f.forwards - start - 1 == at:
            f.net[0].weight.grad[0, 0] = value
        return loss

    return backward


@pytest.mark.parametrize("value", [math.inf, math.nan])
@pytest.mark.parametrize("at", [0, 1])
def test_a_skipped_step_leaves_the_average(*, path, training, door, bits, value, at):
    f, g = training(), training()
    opt, other = build(f, skip_nonfinite=True), build(g, skip_nonfinite=True)
    train(opt, f, 2, door)
    was = bits(opt.state_dict())
    door(opt, spoiling(f, at, value))
    assert opt.last.stepped is False
    assert bits(opt.state_dict()) == was
    train(opt, f, 3, door)
    train(other, g, 5, door)
    assert bits(f.weights) == bits(g.weights)


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_an_accelerator_without_a_check_does_not_remember_nan(*, accelerator, training, block_door, value):
    """The base decides on this step, whose second gradient is good; the next one climbs again."""
    f = training()
    opt = train(build(f), f, 2, block_door)
    block_door(opt, spoiling(f, 0, value))
    assert opt.last.stepped
    block_door(opt, f)
    assert opt.last.radius == pytest.approx(0.1)
    assert all(bool(torch.isfinite(a).all()) for a in averages(opt).values())


@pytest.mark.parametrize("spoil", [None, 0, 1])
def test_under_a_scaler(path, training, bits, spoil):
    """Averages are of unscaled gradients, and an overflow in either pass is forgotten."""
    f, g, scaler = training(), training(), GradScaler("cpu", init_scale=65536.0)
    opt, plain = build(f), build(g)

    def step(at=None):
        opt.zero_grad()
        for i in (0, 1):
            with opt.perturbed(scaler) if i else torch.enable_grad():
                scaler.scale(nn.functional.cross_entropy(f.net(f.x), f.y)).backward()
                if i == at:
                    f.net[0].weight.grad[0, 0] = math.inf
        scaler.step(opt)
        scaler.update()

    for at in (None, spoil, None) if spoil is not None else (None, None):
        step(at)
    for _ in range(2):
        g.net.zero_grad()
        g()
        with plain.perturbed():
            g()
        plain.step()
    assert bits(f.weights) == bits(g.weights)
    assert bits(averages(opt)) == bits(averages(plain))
    assert scaler.get_scale() == (65536.0 if spoil is None else 32768.0)


@pytest.mark.parametrize("trained_by", ["bare", "sam"])
def test_a_checkpoint_without_averages_starts_afresh(training, door, bits, trained_by):
    f, g = training(), training()
    opt = train(build(f), f, 3, door)
    base = torch.optim.Adam(g.net.parameters(), lr=0.05)
    source = base if trained_by == "bare" else sm.SAM(base, rho=0.1)
    for _ in range(2):
        source.zero_grad()
        g()
        if trained_by == "sam":
            with source.perturbed():
                g()
        source.step()
    f.net.load_state_dict(g.net.state_dict())
    opt.load_state_dict(copy.deepcopy(source.state_dict()))
    assert "sharpmin" not in opt.state_dict()
    fresh = build(g)
    fresh.load_state_dict(copy.deepcopy(source.state_dict()))
    door(opt, f)
    door(fresh, g)
    assert bits(f.weights) == bits(g.weights)
    assert bits(opt.state_dict()) == bits(fresh.state_dict())


def test_its_checkpoint_loads_into_the_base_and_into_sam(training, door, bits):
    """Neither has a use for the averages, and neither carries them on."""
    f, g = training(), training()
    state = train(build(f), f, 2, door).state_dict()
    torch.optim.Adam(f.net.parameters()).load_state_dict(state)
    g.net.load_state_dict(f.net.state_dict())
    opt = sm.SAM(torch.optim.Adam(f.net.parameters()), rho=0.1)
    twin = sm.SAM(torch.optim.Adam(g.net.parameters()), rho=0.1)
    opt.load_state_dict(copy.deepcopy(state))
    twin.load_state_dict({k: copy.deepcopy(v) for k, v in state.items() if k != "sharpmin"})
    door(opt, f)
    door(twin, g)
    assert bits(f.weights) == bits(g.weights)
    assert "sharpmin" not in opt.state_dict()


def test_theta_one_is_sam(path, training, door, bits):
    f, g = training(), training()
    train(sm.SAM(torch.optim.Adam(f.net.parameters()), rho=0.1, ascent=sm.Ema(1.0)), f, 5, door)
    train(sm.SAM(torch.optim.Adam(g.net.parameters()), rho=0.1), g, 5, door)
    assert bits(f.weights) == bits(g.weights)


def test_a_parameter_without_a_gradient_keeps_its_average_and_stays(path):
    p, q = (nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in range(2))
    opt = sm.SAM(torch.optim.SGD([p, q], lr=0.0), rho=1.0, ascent=sm.Ema(0.5))
    seen = []
    for gradients in [(3.0, 4.0), (6.0, None), (0.0, 8.0)]:
        for w, g in zip((p, q), gradients, strict=True):
            w.grad = None if g is None else torch.full_like(w, g)
        with opt.perturbed():
            seen.append((p.item(), q.item()))
            p.grad = torch.ones_like(p)
        opt.step()
    n = math.hypot(1.875, 5.0)
    assert np.array(seen) == pytest.approx(np.array([(0.6, 0.8), (1.0, 0.0), (1.875 / n, 5.0 / n)]), rel=1e-12)
    assert [averages(opt)[i].item() for i in range(2)] == [1.875, 5.0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_averaged_in_float32(path, dtype):
    """A share of 0.001 of the gradient would not register in bfloat16."""
    p = nn.Parameter(torch.ones(2, dtype=dtype))
    opt = sm.SAM(torch.optim.SGD([p], lr=0.0), rho=1.0, ascent=sm.Ema(0.001))
    for _ in range(50):
        p.grad = torch.tensor([3.0, 4.0], dtype=dtype)
        with opt.perturbed():
            p.grad = torch.zeros_like(p)
        opt.step()
    assert averages(opt)[0].dtype is torch.float32
    assert averages(opt)[0].tolist() == pytest.approx([3 * (1 - 0.999**50), 4 * (1 - 0.999**50)], rel=1e-5)
    again = sm.SAM(torch.optim.SGD([p], lr=0.0), rho=1.0, ascent=sm.Ema(0.001))
    again.load_state_dict(through_disk(opt.state_dict()))
    assert torch.equal(averages(again)[0], averages(opt)[0])
    assert averages(again)[0].dtype is torch.float32


def test_sparse_gradients(path):
    """Rows of earlier batches go on moving: the average of a row that is not drawn decays."""
    table, seen = nn.Embedding(3, 1, sparse=True, dtype=torch.float64), []
    nn.init.zeros_(table.weight)
    opt = sm.SAM(torch.optim.SGD(table.parameters(), lr=0.0), rho=1.0, ascent=sm.Ema(0.5))
    for row in (0, 1):
        opt.zero_grad()
        table(torch.tensor([row, row])).sum().backward()
        with opt.perturbed():
            seen.append(table.weight.detach().flatten().tolist())
            table(torch.tensor([row])).sum().backward()
        opt.step()
    assert np.array(seen) == pytest.approx(np.array([[1, 0, 0], [1 / 5**0.5, 2 / 5**0.5, 0]]), rel=1e-12)


@pytest.mark.parametrize(
    ("theta", "error"), [(0.0, ValueError), (1.5, ValueError), (-1, ValueError), (math.nan, ValueError), ("1", TypeError)]
)
def test_a_bad_theta_is_refused(theta, error):
    with pytest.raises(error, match="Ema: theta="):
        sm.Ema(theta)


@pytest.mark.parametrize("ascent", [sm.Gradient(), sm.Ema(0.5), sm.Momentum()], ids=str)
def test_maximize_is_minus_the_objective(training, door, bits, ascent):
    f, g = training(), training()
    options = {"lr": 0.1, "momentum": 0.9}
    down = sm.SAM(torch.optim.SGD(f.net.parameters(), **options), rho=0.1, ascent=ascent)
    up = sm.SAM(torch.optim.SGD(g.net.parameters(), **options, maximize=True), rho=0.1, ascent=ascent)

    def objective():
        (-nn.functional.cross_entropy(g.net(g.x), g.y)).backward()

    for _ in range(4):
        door(down, f)
        door(up, objective)
    assert bits(f.weights) == bits(g.weights)
