"""Fault 38: what a user can set acts, or is refused; what does not belong together is refused; what stands still is told."""

import math

import pytest
import torch
from torch import nn
from torch.amp import GradScaler

import sharpmin as sm
from sharpmin.optim._settings import NAMES


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([3.0, 1.0], dtype=torch.float64))
        self.bn = nn.BatchNorm1d(1)

    def __call__(self):
        with torch.enable_grad():
            loss = 0.5 * (self.w[0] ** 2 + 4 * self.w[1] ** 2)
        loss.backward()
        return loss


def make(**options):
    net = Net()
    return net, sm.SAM(torch.optim.SGD([net.w], lr=0.1, momentum=0.5), **{"rho": 0.5, **options})


OTHER = {  # name: another value, made for a net
    "model": lambda net: net,
    "geometry": lambda net: sm.LInf(),
    "ascent": lambda net: sm.Ema(0.3),
    "descent": lambda net: sm.Mix(0.3),
    "scope": lambda net: "microbatch",
    "telemetry": lambda net: True,
    "rounding": lambda net: "stochastic",
    "skip_nonfinite": lambda net: True,
    "buffers": lambda net: lambda name, buffer: True,
    "rho": lambda net: 0.2,
}


def step(net, opt):
    opt.zero_grad()
    with opt.clean():
        net()
    with opt.perturbed():
        net()
    opt.step()


def test_every_setting_is_in_the_table():
    assert set(OTHER) == {*NAMES, "rho"}


@pytest.mark.parametrize("name", OTHER)
def test_set_after_construction_is_as_given_to_it(name, bits):
    """After a step, so that what was remembered counts, too."""
    net, opt = make(**({"model": None} if name != "buffers" else {}))
    other, at_once = make()
    step(net, opt)
    step(other, at_once)
    if name == "buffers":
        opt.model = net
    setattr(opt, name, OTHER[name](net))
    options = {name: OTHER[name](other)} | ({"model": other} if name == "buffers" else {})
    rho = options.pop("rho", 0.5)
    del at_once.param_groups[0]["rho"]
    fresh = sm.SAM(at_once.base, rho, **options)
    for _ in range(3):
        step(net, opt)
        step(other, fresh)
    assert bits([net.w, opt.state_dict()]) == bits([other.w, fresh.state_dict()])
    assert repr(opt) == repr(fresh)
    assert opt.last == fresh.last
    assert (name == "buffers") or getattr(opt, name) == (OTHER[name](net) if name != "model" else net)


BAD = {
    "model": (nn.Linear(1, 1), ValueError, r"holds none of the parameters"),
    "geometry": (sm.L2, TypeError, r"geometry=L2\(\)"),
    "ascent": ("ema", TypeError, r"no ascent instance"),
    "descent": (0.5, TypeError, r"no descent instance"),
    "scope": ("batch", ValueError, r"'global', 'rank', 'microbatch'"),
    "telemetry": ("yes", TypeError, r"True or False"),
    "rounding": ("up", ValueError, r"'nearest', 'stochastic'"),
    "skip_nonfinite": (1, TypeError, r"True or False"),
    "buffers": ("bn", TypeError, r"a function of a buffer's name"),
    "rho": (-1.0, ValueError, r"rho=-1\.0"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("how", ["construction", "assignment"])
def test_a_bad_value_is_refused_and_nothing_changes(name, how):
    value, error, match = BAD[name]
    if how == "construction":
        with pytest.raises(error, match=match):
            make(**{name: value})
        return
    _, opt = make()
    was = repr(opt)
    with pytest.raises(error, match=match):
        setattr(opt, name, value)
    assert repr(opt) == was


@pytest.mark.parametrize("name", OTHER)
def test_nothing_is_set_while_the_weights_are_perturbed(name):
    net, opt = make()
    net()
    with opt.perturbed():
        with pytest.raises(sm.PhaseError, match=rf"opt\.{name} = "):
            setattr(opt, name, OTHER[name](net))
        net()
    opt.step()


def test_rho_acts_on_all_groups_and_reads_as_it_is():
    a, b = (nn.Parameter(torch.ones(1)) for _ in range(2))
    opt = sm.SAM(torch.optim.SGD([{"params": [a]}, {"params": [b], "rho": 0.2}], lr=0.1), rho=0.1)
    assert opt.rho == [0.1, 0.2]
    opt.rho = sm.rho.Cosine(0.3, steps=9)
    assert opt.rho == sm.rho.Cosine(0.3, steps=9)
    assert [group["rho"] for group in opt.param_groups] == [opt.rho] * 2
    opt.add_param_group({"params": [nn.Parameter(torch.ones(1))]})
    assert opt.rho == sm.rho.Cosine(0.3, steps=9)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("lr", r'group\["lr"\] = '),
        ("momentum", r'group\["momentum"\] = '),
        ("geometri", "did you mean opt.geometry"),
        ("telemetri", "did you mean opt.telemetry"),
        ("rhos", "did you mean opt.rho"),
        ("base", "the base is fixed"),
        ("last", "no setter"),
    ],
)
def test_an_attribute_that_would_do_nothing(name, match):
    _, opt = make()
    with pytest.raises(AttributeError, match=match):
        setattr(opt, name, 0.1)


def test_other_attributes_are_free():
    """Frameworks and users hang their own things on an optimizer."""
    _, opt = make()
    opt.label, opt._private = "generator", 3
    assert (opt.label, opt._private) == ("generator", 3)


def test_what_does_not_go_together():
    with pytest.raises(ValueError, match="give model=, too"):
        make(buffers=lambda name, buffer: True)
    with pytest.raises(ValueError, match=r'"adaptive", which does nothing.*sharpmin\.asam'):
        sm.SAM(torch.optim.SGD([{"params": [nn.Parameter(torch.ones(1))], "adaptive": True}], lr=0.1))


@pytest.mark.parametrize("unscaled", [False, True])
def test_a_scaler_on_the_step_only(unscaled, bits):
    """The first gradients would be scaled, or, unscaled by hand, the second ones, by 65536, with nobody to unscale them."""
    net, opt = make()
    scaler, was = GradScaler("cpu", init_scale=65536.0), bits(net.w)

    def backward():
        scaler.scale(0.5 * (net.w[0] ** 2 + 4 * net.w[1] ** 2)).backward()

    backward()
    if unscaled:
        scaler.unscale_(opt)
    with opt.perturbed():
        backward()
    with pytest.raises(sm.PhaseError, match=r"with opt\.perturbed\(scaler\):"):
        scaler.step(opt)
    assert bits(net.w) == was


def test_a_scaler_on_the_block_only(bits):
    net, opt = make()
    scaler, was = GradScaler("cpu", init_scale=65536.0), bits(net.w)

    def backward():
        scaler.scale(0.5 * (net.w[0] ** 2 + 4 * net.w[1] ** 2)).backward()

    backward()
    with opt.perturbed(scaler):
        backward()
    with pytest.raises(sm.PhaseError, match=r"scaler\.step\(opt\)"):
        opt.step()
    assert bits(net.w) == was
    scaler.step(opt)
    assert net.w.tolist() == pytest.approx([2.67, 0.44], abs=1e-12)


def test_a_scaler_with_a_closure(bits):
    net, opt = make()
    scaler, was = GradScaler("cpu"), bits(net.w)
    scaler.scale(0.5 * (net.w**2).sum()).backward()
    with pytest.raises(sm.PhaseError, match=r"with opt\.perturbed\(scaler\)"):
        scaler.step(opt, net)
    assert bits(net.w) == was


@pytest.mark.parametrize("which", ["first", "second"])
def test_a_skipped_step_is_told_once(which):
    net, opt = make()

    def skipped():
        opt.zero_grad()
        net()
        if which == "first":
            net.w.grad[0] = math.nan
        with opt.perturbed():
            net()
            if which == "second":
                net.w.grad[0] = math.nan
        opt.step()

    with pytest.warns(UserWarning, match=rf"a {which} gradient of step 0 holds an inf or a nan.*stand still") as told:
        [skipped() for _ in range(3)]
    assert len(told) == 1
    assert told[0].filename == __file__


def test_a_step_count_that_stands_still_is_told_once():
    """`base.step()` in place of `opt.step()`."""
    net, opt = make()

    def by_the_base():
        opt.zero_grad()
        net()
        with opt.perturbed():
            net()
        opt.base.step()

    with pytest.warns(UserWarning, match=r"3 second passes came without opt\.step\(\).*not base\.step\(\)") as told:
        [by_the_base() for _ in range(6)]
    assert len(told) == 1


@pytest.mark.parametrize("scope", ["global", "microbatch"])
def test_micro_batches_in_their_scope_are_no_standstill(scope):
    """filterwarnings makes a warning an error."""
    net, opt = make(scope=scope)
    for _ in range(3):
        for _ in range(1 if scope == "global" else 6):
            with opt.clean():
                net()
            with opt.perturbed():
                net()
        opt.step()
        opt.zero_grad()
