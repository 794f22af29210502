"""Scope "microbatch" on steps where nothing climbs: the base's step with what has accumulated, whoever unscales it."""

import pytest
import torch
from torch import nn

import sharpmin as sm


class Boom(Exception):
    """What a first pass raises."""


def loss(net, i):
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(i))
    return net(x).square().mean()


def net():
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def by_hand(steps):
    """Plain SGD with momentum on the sums over three micro-batches."""
    own = net()
    base = torch.optim.SGD(own.parameters(), lr=0.1, momentum=0.9)
    for t in steps:
        base.zero_grad()
        for i in range(3):
            loss(own, 3 * t + i).backward()
        base.step()
    return own.weight


@pytest.mark.parametrize("block", ["left out", "run", "cleared in", "left out, then run"])
@pytest.mark.parametrize("unscale", [None, "by step", "by hand"])
@pytest.mark.parametrize("fails", [False, True])
def test_rho_0_is_the_base(block, unscale, fails):
    own = net()
    opt = sm.SAM(torch.optim.SGD(own.parameters(), lr=0.1, momentum=0.9), rho=0.0, scope="microbatch")
    scaler = None if unscale is None else torch.amp.GradScaler("cpu", init_scale=1024.0)

    def backward(i, error=None):
        value = loss(own, i)
        (value if scaler is None else scaler.scale(value)).backward()
        if error is not None:
            raise error

    def step(t, error=None):
        opt.zero_grad()
        for i in range(3):
            with opt.clean():
                backward(3 * t + i, error if i == 1 else None)
            if block in ("run", "cleared in") or (block == "left out, then run" and i == 2):
                with opt.perturbed(scaler):
                    if block == "cleared in":
                        opt.zero_grad()
                    backward(3 * t + i)
        if unscale == "by hand":
            scaler.unscale_(opt)
        opt.step() if scaler is None else scaler.step(opt)
        if scaler is not None:
            scaler.update()

    step(0)
    if fails:
        with pytest.raises(Boom):
            step(1, Boom())
    step(2)
    assert torch.equal(own.weight, by_hand([0, 2]))


@pytest.mark.parametrize("clear", ["opt", "net"])
def test_a_first_pass_that_failed_at_rho_0_leaves_nothing_for_a_step_that_climbs(clear):
    """The gradients that it had found are no part of what accumulates later."""
    ends = []
    for fails in (False, True):
        own = net()
        opt = sm.SAM(torch.optim.SGD(own.parameters(), lr=0.1), rho=0.0, scope="microbatch")
        if fails:
            for i in range(2):
                with pytest.raises(Boom) if i else opt.clean(), opt.clean():
                    loss(own, i).backward()
                    if i:
                        raise Boom
        opt.rho = 0.5
        (opt if clear == "opt" else own).zero_grad()
        for i in range(2):
            with opt.clean():
                loss(own, 10 + i).backward()
            with opt.perturbed():
                loss(own, 10 + i).backward()
        opt.step()
        ends.append(own.weight)
    assert torch.equal(*ends)
