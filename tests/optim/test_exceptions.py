"""Whoever raises inside a step, and by whatever door: the weights are w, and the next step is what it would have been."""

import copy
from dataclasses import dataclass

import pytest
import torch
from torch import nn

import sharpmin as sm
from sharpmin.core.rho import RhoSchedule


class Out(BaseException):
    """Like KeyboardInterrupt, and nobody else's."""


class Thrower:
    """Raises at the n-th call from when it is armed."""

    def __init__(self):
        self.calls = None

    def __call__(self, *args, **kwargs):
        if self.calls is not None:
            self.calls -= 1
            if self.calls < 0:
                self.calls = None
                raise Out
        return True


THROW = Thrower()


@dataclass(frozen=True)
class Radius(RhoSchedule):
    def __call__(self, info):
        THROW()
        return 0.1


class Norm(sm.Elementwise):
    def at(self, weights, vectors, context):
        THROW()
        return super().at(weights, vectors, context)


class Up(sm.Gradient):
    def update(self, weights, grads, state, context):
        THROW()
        return super().update(weights, grads, state, context)


class Down(sm.Mix):
    def coefficients(self, *args):
        THROW()
        return super().coefficients(*args)


class Base(torch.optim.SGD):
    def step(self, closure=None):
        THROW()
        return super().step(closure)


def run(place, scaled=False):
    """A small run whose `place` can throw."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Dropout(0.3), nn.Linear(5, 3))
    kind = Base if place == "base" else torch.optim.SGD
    base = kind(net.parameters(), lr=0.1, momentum=0.9)
    options = {"geometry": Norm()} if place == "geometry" else {"ascent": Up()} if place == "ascent" else {}
    options |= {"descent": Down(0.5)} if place == "descent" else {"telemetry": True} if place == "watcher" else {}
    options |= {"buffers": THROW} if place == "buffers" else {}
    opt = sm.SAM(base, rho=Radius() if place == "rho" else 0.1, model=net, **options)
    if place == "watcher":
        opt.watchers.append(THROW)
    hooked = {"base pre hook": (base, "pre"), "opt pre hook": (opt, "pre")}.get(place)
    if hooked is not None:
        getattr(hooked[0], f"register_step_{hooked[1]}_hook")(lambda *_: THROW() and None)
    if place == "model hook":
        net[3].register_forward_hook(lambda *_: THROW() and None)
    return net, opt, torch.amp.GradScaler("cpu", init_scale=1024.0) if scaled else None


def data(i):
    generator = torch.Generator().manual_seed(i)
    return torch.randn(8, 4, generator=generator), torch.randint(3, (8,), generator=generator)


def step(door, net, opt, scaler, i, unscaled=False):
    torch.manual_seed(100 + i)
    x, y = data(i)

    def backward():
        loss = nn.functional.cross_entropy(net(x), y)
        (loss if scaler is None else scaler.scale(loss)).backward()
        return loss

    def finish():
        opt.step() if scaler is None else scaler.step(opt)
        if scaler is not None:
            scaler.update()

    def closure():
        opt.zero_grad()
        return backward()

    if door == "closure":
        opt.step(closure)
        return
    opt.zero_grad()
    with opt.clean():
        backward()
    if unscaled:
        scaler.unscale_(opt)
    if door == "block":
        with opt.perturbed(scaler):
            backward()
        finish()
        return
    opt.perturb(scaler)
    try:
        backward()
    except BaseException:  # the raw phases leave this to the loop
        opt.abort()
        raise
    if door == "two-step":
        opt.second_step(zero_grad=True)
        return
    opt.restore()
    finish()


PLACES = ["base", "base pre hook", "opt pre hook", "watcher", "rho", "geometry", "ascent", "descent", "buffers", "model hook"]
DOORS = ["block", "closure", "raw", "two-step"]


def check(place, door, calls, scaled=False, unscaled=False):
    THROW.calls = None
    net, opt, scaler = run(place, scaled)
    step(door, net, opt, scaler, 0, unscaled)
    was = copy.deepcopy((net.state_dict(), opt.state_dict()))
    fresh, other, another = run(place, scaled)
    fresh.load_state_dict(was[0])
    other.load_state_dict(was[1])
    THROW.calls = calls
    with pytest.raises(Out):
        step(door, net, opt, scaler, 1, unscaled)
    for name, p in net.named_parameters():
        assert torch.equal(p, was[0][name]), name
    for i in (2, 3):
        step(door, net, opt, scaler, i, unscaled)
        if i == 2:
            for module in (net, fresh):  # a first pass that ran has moved them: the test is not about that
                module[1].reset_running_stats()
        step(door, fresh, other, another, i, unscaled)
        assert opt.last.stepped
        assert opt.last.passes == 2
        for p, q in zip(net.parameters(), fresh.parameters(), strict=True):
            assert torch.equal(p, q)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("place", PLACES)
def test_the_next_step_is_what_it_would_have_been(place, door):
    check(place, door, 0)


@pytest.mark.parametrize("door", DOORS)
def test_in_the_second_forward(door):
    check("model hook", door, 1)


@pytest.mark.parametrize("unscaled", [False, True])
@pytest.mark.parametrize("door", ["block", "raw"])
@pytest.mark.parametrize("place", PLACES)
def test_under_a_scaler(place, door, unscaled):
    if unscaled and place in ("model hook",):
        check(place, door, 1, True, True)
    else:
        check(place, door, 0, True, unscaled)


@pytest.mark.parametrize("unscaled", [False, True])
@pytest.mark.parametrize("door", ["block", "raw"])
def test_in_the_second_forward_under_a_scaler(door, unscaled):
    check("model hook", door, 1, True, unscaled)


@pytest.mark.parametrize("update", [False, True])
def test_a_scaler_may_be_updated_after_the_exception(update):
    net, opt, scaler = run("base", True)
    THROW.calls = 0
    with pytest.raises(Out):
        step("block", net, opt, scaler, 0)
    if update:
        scaler.update()
    step("block", net, opt, scaler, 1)
    assert opt.last.stepped
    assert scaler.get_scale() == 1024.0


def test_a_step_that_is_dropped_between_block_and_scaler_frees_the_scaler():
    """Clipping raised, or the loop left the batch out."""
    net, opt, scaler = run("none", True)
    for i in range(2):
        x, y = data(i)
        opt.zero_grad()
        scaler.scale(nn.functional.cross_entropy(net(x), y)).backward()
        with opt.perturbed(scaler):
            scaler.scale(nn.functional.cross_entropy(net(x), y)).backward()
        scaler.unscale_(opt)
    step("block", net, opt, scaler, 3)
    assert opt.last.stepped


@pytest.mark.parametrize("door", ["block", "closure"])
def test_the_masks_of_a_first_pass_that_failed_are_forgotten(door):
    """Dropout draws the same mask in both passes of the next step."""
    THROW.calls = None
    net, opt, _ = run("model hook")
    masks = []
    net[2].register_forward_hook(lambda module, x, out: masks.append(out == 0))
    THROW.calls = 0
    with pytest.raises(Out):
        step(door, net, opt, None, 0)
    masks.clear()
    step(door, net, opt, None, 1)
    assert torch.equal(*masks)


def test_a_post_hook_that_raises_leaves_what_the_base_has_done():
    for door in DOORS:
        net, opt, _ = run("none")
        handle = opt.base.register_step_post_hook(lambda *_: THROW() and None)
        THROW.calls = 0
        with pytest.raises(Out):
            step(door, net, opt, None, 0)
        handle.remove()
        step(door, net, opt, None, 1)
        assert opt.last.stepped
        assert opt._passes.state.trip is None
