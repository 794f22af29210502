"""Loops of others that leave out what a verdict needs: told at once, or never called a verdict."""

import copy

import pytest
import torch

import sharpmin as sm
from sharpmin.diagnostics import State


def loop(steps=60, scale=(1.0, 1.0), switch=None, **options):
    """A SAM by hand on noisy least squares; the gradients that the probe sees are multiplied, up to step `switch`."""
    rng = torch.Generator().manual_seed(0)
    net = torch.nn.Linear(4, 1, bias=False).double()
    with torch.no_grad():
        net.weight.fill_(1.0)
    base = torch.optim.SGD(net.parameters(), lr=0.01)
    probe = sm.watch(net, rho=0.3, every=1, block=5, **({"optimizer": base} | options))
    for step in range(steps):
        x, xi = (torch.randn(16, 4, generator=rng, dtype=torch.float64) for _ in range(2))
        first, second = scale if switch is None or step < switch else (1.0, 1.0)

        def loss(x=x, xi=xi):
            return (net(x) - 0.3 * xi.sum(1, keepdim=True)).square().mean()

        base.zero_grad()
        value = loss()
        (first * value).backward()
        probe.clean(value)
        e = 0.3 * net.weight.grad / net.weight.grad.norm()
        net.weight.data.add_(e)
        base.zero_grad()
        (second * loss()).backward()
        net.weight.data.sub_(e)
        probe.perturbed()
        net.weight.grad.div_(second)
        base.step()
    return probe


def test_without_the_base_it_is_said_at_once_and_nothing_is_called_free():
    with pytest.warns(UserWarning, match=r"watch\(model, rho=..., optimizer=base\)"):
        probe = loop(optimizer=None)
    found = sm.diagnose(probe)
    assert found.state is State.UNDECIDED
    assert any("the learning rate is 0 or unknown" in remark for remark in found.remarks)
    assert sm.diagnose(loop()).window.lr == 0.01


@pytest.mark.parametrize("scale", [(1.0, 2.0**16), (2.0**16, 1.0), (2.0**12, 1.0)])
def test_scaled_and_unscaled_gradients_are_never_mixed(scale):
    with pytest.raises(ValueError, match=r"scaler.unscale_\(optimizer\)"):
        sm.diagnose(loop(scale=scale))
    found, right = sm.diagnose(loop(scale=scale, switch=20)), loop()
    assert "4 blocks in which one gradient is scaled and the other is not are left out" in found.remarks
    log = copy.deepcopy(right.log)
    for _ in range(4):
        log.blocks.popleft()
    for name, value in sm.diagnose(log).numbers.asdict().items():
        assert getattr(found.numbers, name) == pytest.approx(value), name


def test_gradients_that_are_both_scaled_change_no_share():
    """A run that is watched in the scale of its GradScaler: kappa is a ratio."""
    a, b = (sm.diagnose(loop(scale=scale)).numbers for scale in ((1.0, 1.0), (1024.0, 1024.0)))
    assert b.cancelled == pytest.approx(a.cancelled, rel=1e-6)
    assert b.amplification == pytest.approx(a.amplification, rel=1e-9)
