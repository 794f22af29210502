"""Nothing waits for the device inside a step: on torch's device "meta" tensors have no values, and reading one raises."""

import pytest
import torch
from torch import nn

import sharpmin as sm
from sharpmin.optim import Context

AXES = {
    "sam": {},
    "model": {"model": True},
    "telemetry": {"telemetry": True},
    "linf": {"geometry": sm.LInf()},
    "elementwise": {"geometry": sm.Elementwise(eta=0.01)},
    "layerwise": {"geometry": sm.Layerwise()},
    "ema": {"ascent": sm.Ema(0.5)},
    "mix": {"descent": sm.Mix(0.5), "telemetry": True},
    "clipped": {"descent": sm.ClippedDifference(0.5), "telemetry": True},
    "unnormalized": {"rho": sm.rho.Unnormalized(0.1), "telemetry": True},
    "capped": {"rho": sm.rho.Capped(0.1, c=0.5)},
    "every": {"rho": sm.rho.Every(0.1, 2)},
    "gsam": {"descent": sm.SurrogateGap(0.4), "telemetry": True},
    "looksam": {"rho": sm.rho.Every(0.1, 2), "descent": sm.ReuseOrthogonal(0.7)},
    "friendly": {"ascent": sm.Residual()},
    "stable": {"descent": sm.Renormalized()},
    "fisher": {"geometry": sm.FisherMask(0.5)},
    "random": {"ascent": sm.RandomDirection()},
    "spectral": {"geometry": sm.Spectral("newton-schulz")},  # a decomposition waits for the device to say that it converged
}
BASES = {
    "sgd": lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9, weight_decay=0.1),
    "adamw": lambda ps: torch.optim.AdamW(ps, lr=0.1),
}


def net_on_meta():
    with torch.device("meta"):
        parts = [nn.Linear(8, 3000), nn.BatchNorm1d(3000), nn.Dropout(0.1), nn.Linear(3000, 3)]
        return nn.Sequential(*parts), torch.randn(4, 8)


def step(opt, net, x):
    opt.zero_grad()
    if opt.ascent.needs_clean:
        with opt.clean():
            net(x).square().mean().backward()
    with opt.perturbed():
        net(x).square().mean().backward()
    opt.step()


@pytest.fixture
def numbers(monkeypatch):
    """This device has no generator of random numbers; one for the host makes tensors without values, too."""
    monkeypatch.setattr(Context, "generator", lambda self, device: torch.Generator())


@pytest.mark.usefixtures("numbers")
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("axes", AXES)
def test_a_step(base, axes):
    net, x = net_on_meta()
    options = dict(AXES[axes])
    if options.pop("model", False):
        options["model"] = net
    opt = sm.SAM(BASES[base](net.parameters()), **{"rho": 0.1, **options})
    for _ in range(3):
        step(opt, net, x)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("telemetry", [False, True])
def test_a_watched_step(base, telemetry):
    net, x = net_on_meta()
    opt = sm.SAM(BASES[base](net.parameters()), rho=0.1, telemetry=telemetry)
    probe = sm.watch(opt, every=2, block=1000)
    for _ in range(6):
        step(opt, net, x)
    assert probe.step == 6
    with pytest.raises(RuntimeError, match="meta"):  # the rows wait for the end of the block
        probe.flush()


@pytest.mark.parametrize("rho", [sm.rho.ProportionalToLR(0.1, lr=0.1), sm.rho.Every(sm.rho.ProportionalToLR(0.1, lr=0.1), 1)])
def test_a_radius_that_follows_a_learning_rate_on_the_device(rho):
    """As `capturable=True` has it; the base of this device cannot step with one."""
    net, x = net_on_meta()
    opt = sm.SAM(BASES["sgd"](net.parameters()), rho=rho, telemetry=True)
    opt.param_groups[0]["lr"] = torch.tensor(0.1, device="meta")
    assert opt.needs_second_pass
    net(x).square().mean().backward()
    with opt.perturbed():
        net(x).square().mean().backward()


def test_a_read_is_seen():
    """`skip_nonfinite=True` is one read a step, and the report is another."""
    net, x = net_on_meta()
    with pytest.raises(RuntimeError, match="meta"):
        step(sm.SAM(BASES["sgd"](net.parameters()), rho=0.1, skip_nonfinite=True), net, x)
    opt = sm.SAM(BASES["sgd"](net.parameters()), rho=0.1)
    step(opt, net, x)
    with pytest.raises(RuntimeError, match="meta"):
        _ = opt.last
