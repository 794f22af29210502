"""Runs whose learning rate or rho moves: what lies ahead, the present rho, and branches on their own schedule."""

import copy
import math

import pytest
import torch
from torch.optim import lr_scheduler as schedulers

import sharpmin as sm
from sharpmin.diagnostics._run.ahead import Ahead, between, scheduler_of
from sharpmin.diagnostics._run.window import Window
from sharpmin.diagnostics.toggle import toggle
from sharpmin.rho import Cosine, Every

SCHEDULERS = {
    "cosine": lambda o: schedulers.CosineAnnealingLR(o, 100),
    "one-cycle": lambda o: schedulers.OneCycleLR(o, 1.0, 100),
    "linear": lambda o: schedulers.LinearLR(o, 1.0, 0.0, 100),
    "lambda": lambda o: schedulers.LambdaLR(o, lambda k: 1 / (k + 1)),
    "warm-up": lambda o: schedulers.SequentialLR(
        o, [schedulers.LinearLR(o, 0.1, 1.0, 10), schedulers.CosineAnnealingLR(o, 90)], [10]
    ),
    "chained": lambda o: schedulers.ChainedScheduler([schedulers.ExponentialLR(o, 0.9), schedulers.ConstantLR(o, 0.5, 5)]),
    "steps": lambda o: schedulers.MultiStepLR(o, [5, 50], 0.1),
    "cyclic": lambda o: schedulers.CyclicLR(o, 0.1, 1.0, 10),
    "restarts": lambda o: schedulers.CosineAnnealingWarmRestarts(o, 10, 2),
}


def run(rho=0.1, lr=0.5, momentum=0.9):
    w = torch.nn.Parameter(torch.tensor([3.0, 1.0], dtype=torch.float64))
    return w, sm.SAM(torch.optim.SGD([w], lr=lr, momentum=momentum), rho=rho)


def closure_of(w, opt, noise=None):
    def closure():
        opt.zero_grad()
        loss = 0.5 * (w[0] ** 2 + 4 * w[1] ** 2) + (0 if noise is None else (noise * w).sum())
        loss.backward()
        return loss

    return closure


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("wrapped", [False, True], ids=["SAM", "base"])
def test_what_a_scheduler_will_do(name, wrapped):
    _, opt = run()
    scheduler = SCHEDULERS[name](opt.base if wrapped else opt)
    ahead, seen = Ahead(scheduler), []
    first = ahead.rates(60)
    for step in range(60):
        if step in (20, 21, 40):
            assert ahead.rates(20) == first[step : step + 20]
        seen.append(opt.param_groups[0]["lr"])
        opt._opt_called = opt.base._opt_called = True  # as after a step
        scheduler.step()
    assert first == seen


def test_a_scheduler_that_ends_and_one_that_was_moved_by_hand():
    _, opt = run()
    scheduler = schedulers.OneCycleLR(opt, 1.0, 10)
    ahead = Ahead(scheduler)
    assert len(ahead.rates(50)) == 1 + 10  # it can be stepped ten times
    opt.param_groups[0]["lr"] = 7.0
    assert ahead.rates(1) == [7.0]


@pytest.mark.parametrize("each", [1, 5])
@pytest.mark.parametrize("name", ["cosine", "linear", "steps"])
def test_sums_ahead_are_those_of_the_run(name, each):
    _, opt = run()
    scheduler = SCHEDULERS[name](opt)
    ahead, seen, sums = Ahead(scheduler), [], None
    for step in range(20 * each + 64):
        if step == 20 * each:
            sums = ahead.sums(8, step)
        seen.append(opt.param_groups[0]["lr"])
        opt._opt_called = True
        if step % each == each - 1:
            scheduler.step()
    rest = seen[20 * each :]
    for k in (8, 16, 32, 64):
        assert between(sums, 8, k) == pytest.approx(sum(rest[:k]))
    assert between(sums, 8, 24) == pytest.approx((sum(rest[:16]) + sum(rest[:32])) / 2)


@pytest.mark.parametrize("given", [None, "cosine", schedulers.ReduceLROnPlateau])
def test_what_is_no_schedule_is_refused(given):
    w, opt = run()
    with pytest.raises(TypeError, match="scheduler="):
        scheduler_of(given(opt) if callable(given) else given, "watch")
    wrapper = type("Accelerated", (), {"scheduler": schedulers.StepLR(opt, 3)})()
    assert scheduler_of(wrapper, "watch") is wrapper.scheduler
    assert sm.watch(opt, scheduler=wrapper).ahead is not None
    assert w.grad is None


@pytest.mark.parametrize("steps", [50, 100, 200])
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_tau_is_the_way_of_a_constant_force(steps, momentum):
    """`torch.optim.SGD` under a force that begins now, from rest: its way over the force is tau."""
    probe = _watched(0.1, steps=steps, momentum=momentum)
    window = Window.of(probe.log)
    x = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    base = torch.optim.SGD([x], lr=window.lr, momentum=momentum)
    for _ in range(window.horizon):
        x.grad = torch.ones_like(x)
        base.step()
    assert window.tau == pytest.approx(-x.item())
    ahead = Window.of(probe.log, lr=lambda step: 0.25 * window.lr)
    assert ahead.tau == pytest.approx(0.25 * window.tau)


def _watched(rho, *, steps=200, momentum=0.0, lr=0.05, scheduler=None, block=10):
    torch.manual_seed(0)
    w, opt = run(rho, lr, momentum)
    moved = None if scheduler is None else scheduler(opt)
    probe = sm.watch(opt, every=1, block=block, scheduler=moved)
    for _ in range(steps):
        opt.step(closure_of(w, opt, torch.randn(2, dtype=torch.float64)))
        if moved is not None:
            moved.step()
    return probe


@pytest.mark.parametrize("name", SCHEDULERS)
def test_no_schedule_is_refused(name):
    probe = _watched(0.1, steps=95, scheduler=SCHEDULERS[name])
    found = sm.diagnose(probe)
    assert found.state in sm.diagnostics.State
    assert math.isfinite(found.numbers.fall)
    assert found.window.ahead is not None


@pytest.mark.parametrize("rho", [Cosine(0.3, steps=400), Cosine(0.3, steps=200), Every(0.3, k=4)])
def test_no_schedule_of_rho_is_refused(rho):
    found = sm.diagnose(_watched(rho, block=8))
    assert math.isfinite(found.numbers.fall)
    assert found.window.duty == pytest.approx(0.25 if isinstance(rho, Every) else 1.0, abs=0.01)


def test_differences_are_brought_to_the_present_rho():
    """On a quadratic D = rho H g / ||g||: with D over rho the same, all numbers are those of a run at the last rho."""
    rows = list(_watched(0.1, steps=100).log.blocks)
    here, there = sm.diagnostics.Log(), sm.diagnostics.Log()
    here.run = there.run = _watched(0.1, steps=1).log.run
    from sharpmin.diagnostics._run.rows import decode, encode

    for number, row in enumerate(rows):
        here.add(row)
        times = 2 - number / (len(rows) - 1)  # twice the rho at the start
        own = {key: times * row[key] for key in ("dg", "norm_d")} | {"dd": times**2 * row["dd"]}
        there.add({**row, **own, "d": encode(times * decode(row["d"])), "rho": [times * v for v in row["rho"]]})
    a, b = Window.of(here, blocks=10), Window.of(there, blocks=10)
    assert b.rho == pytest.approx(a.rho)
    for key in ("dg", "dd", "norm_d"):
        assert b.scalars[key] == pytest.approx(a.scalars[key])
    assert torch.allclose(a.gram[1], b.gram[1], rtol=1e-6)
    assert torch.allclose(a.gram[2], b.gram[2], rtol=1e-6)


@pytest.mark.parametrize("name", ["cosine", "lambda", "one-cycle"])
@pytest.mark.parametrize("every", [1, 5])
def test_branches_follow_their_own_schedule(name, every):
    """By hand: the same steps with the same scheduler, at the given share of its learning rate."""
    w, opt = run()
    scheduler = SCHEDULERS[name](opt)
    model = torch.nn.ParameterList([w])
    for _ in range(3):
        opt.step(closure_of(w, opt))
        scheduler.step()
    net, other, mine = copy.deepcopy((model, opt, scheduler))

    def step(net, opt, _):
        return opt.step(closure_of(net[0], opt))

    found = toggle(model, opt, step, [None] * 20, branches=["lr / 2"], scheduler=scheduler, every=every)
    assert scheduler.last_epoch == 3
    for share, losses in ((1.0, found.losses["rho"]), (0.5, found.losses["lr / 2"])):
        net, other, mine = copy.deepcopy((model, opt, scheduler))
        for number, loss in enumerate(losses, 1):
            rate = other.param_groups[0]["lr"]
            other.param_groups[0]["lr"] = share * rate
            assert step(net, other, None).item() == pytest.approx(loss, rel=1e-12)
            other.param_groups[0]["lr"] = rate
            if number % every == 0:
                mine.step()


CURVATURE = torch.linspace(0.5, 1.0, 100, dtype=torch.float64)


def sam_steps(x, rho, lr, steps, seed):
    """SAM on CURVATURE x^2 / 2 with noisy gradients, by hand, each row of x with noise of its own."""
    rng = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        g = CURVATURE * x + 0.1 * torch.randn(x.shape, generator=rng, dtype=torch.float64)
        x = x - lr * (g + CURVATURE * rho * g / g.norm(dim=1, keepdim=True))
    return x


@pytest.mark.parametrize("share", [1.0, 0.3, 0.1])
@pytest.mark.parametrize("rho", [0.5, 0.2])
def test_the_noise_that_sam_adds_follows_the_learning_rate(rho, share):
    """From a run at rest at lr = 0.1, what 400 branches lose on the way at a share of it, with rho and with rho = 0."""
    w = torch.nn.Parameter(torch.ones(100, dtype=torch.float64))
    opt, rng = sm.SAM(torch.optim.SGD([w], lr=0.1), rho=rho), torch.Generator().manual_seed(0)
    probe = sm.watch(opt, every=2, block=50)
    for _ in range(1000):
        xi = 0.1 * torch.randn(100, generator=rng, dtype=torch.float64)

        def closure(xi=xi):
            w.grad = CURVATURE * w.detach() + xi
            return 0.5 * (CURVATURE * w.detach().square()).sum()

        opt.step(closure)
    n = sm.diagnose(probe, lr=lambda step: 0.1 * share).numbers
    start = w.detach().expand(400, -1)
    ends = [sam_steps(start, radius, 0.1 * share, n.horizon, seed=5) for radius in (rho, 0.0)]
    held, free = ((0.5 * CURVATURE * x.square()).sum(1).mean().item() for x in ends)
    assert n.relief == pytest.approx(held - free, abs=0.03 * rho * n.loss)
