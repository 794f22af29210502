"""What a probe says of other descents, geometries, groups and bases than plain SAM on one group of SGD."""

import numpy as np
import pytest
import torch
from torch import nn

import sharpmin as sm
from sharpmin.diagnostics import Numbers, Sketch, Window
from sharpmin.diagnostics._run.rows import decode

from ..watched_runs import steps_of

DESCENTS = {
    "perturbed": (sm.Perturbed(), lambda g, big: big),
    "mix": (sm.Mix(0.3), lambda g, big: 0.7 * g + 0.3 * big),
    "clipped": (sm.ClippedDifference(0.1), lambda g, big: g + min(1, 0.1 * float(g.norm() / (big - g).norm())) * (big - g)),
}


@pytest.mark.parametrize("descent", DESCENTS)
@pytest.mark.parametrize("telemetry", [False, True])
def test_the_force_is_what_moves_the_run(descent, telemetry):
    """D is what descends, less g; curvature and smoothness are still those of G."""
    rule, combine = DESCENTS[descent]
    h, w = torch.tensor([1.0, 4.0]).double(), nn.Parameter(torch.tensor([3.0, 1.0]).double())
    opt = sm.SAM(torch.optim.SGD([w], lr=0.1), rho=0.5, descent=rule, telemetry=telemetry)
    probe = sm.watch(opt, every=1, block=4)
    for _ in range(4):
        x = w.detach().clone()
        steps_of(opt, lambda: 0.5 * (h * w * w).sum(), 1)
        g = h * x
        big = h * (x + 0.5 * g / g.norm())
        d, row = combine(g, big) - g, probe.log.steps[-1]
        assert [row["gg"], row["dg"], row["dd"]] == pytest.approx([float(g @ g), float(d @ g), float(d @ d)], rel=1e-9)
        raw = [float((big - g) @ g / (0.5 * g.norm())), float((big - g).norm() / 0.5)]
        own = [row["dg"] / (0.5 * row["gg"] ** 0.5), row["dd"] ** 0.5 / 0.5]
        assert [row.get("along", own[0]), row.get("steep", own[1])] == pytest.approx(raw, rel=1e-9)


@pytest.mark.parametrize("geometry", [sm.LInf(), sm.Layerwise(), sm.Elementwise(0.1)], ids=str)
def test_curvature_is_that_along_the_perturbation(geometry):
    h, w = torch.tensor([1.0, 4.0]).double(), nn.Parameter(torch.tensor([3.0, 1.0]).double())
    opt = sm.SAM(torch.optim.SGD([w], lr=0.1), rho=0.5, geometry=geometry, telemetry=True)
    probe = sm.watch(opt, every=1, block=2)
    steps_of(opt, lambda: 0.5 * (h * w * w).sum(), 4)
    assert probe.log.blocks[-1]["curvature"] == pytest.approx(
        (probe.log.steps[-2]["along"] + opt.last.curvature) / 2, rel=1e-12
    )
    assert probe.log.steps[-1]["steep"] == pytest.approx(opt.last.smoothness, rel=1e-12)
    assert 1.0 <= opt.last.curvature <= 4.0


def test_a_parameter_without_a_gradient_keeps_its_place():
    ps = [nn.Parameter(torch.ones(5).double()), nn.Parameter(torch.ones(7).double())]
    opt = sm.SAM(torch.optim.SGD(ps, lr=0.0), rho=0.1)
    probe = sm.watch(opt, every=1, block=2)
    steps_of(opt, lambda: 1.0 * (ps[1] ** 2).sum(), 1)
    steps_of(opt, lambda: (ps[0] ** 2).sum() + (ps[1] ** 2).sum(), 1)
    whole = torch.cat([torch.full((5,), 1.0), torch.full((7,), 2.0)]).double()  # the mean of (0, 2) and (2, 2)
    np.testing.assert_allclose(decode(probe.log.blocks[0]["g"]), Sketch()([whole]), atol=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_learning_rates_of_their_own_whatever_the_order(momentum):
    """Two groups: the predicted fall weighs each with its rate, and is that of one group where the rates are equal."""
    found = {}
    for name, order, rates in (("ab", (0, 1), (1e-4, 0.02)), ("ba", (1, 0), (1e-4, 0.02)), ("b alone", (1,), (None, 0.02))):
        rng = torch.Generator().manual_seed(0)
        ps = [nn.Parameter(torch.tensor(x).double()) for x in (1.0, 2.0)]
        groups = [{"params": [ps[i]], "lr": rates[i]} for i in order]
        opt = sm.SAM(torch.optim.SGD(groups, lr=1.0, momentum=momentum), rho=0.3)
        probe = sm.watch(opt, every=1, block=20)
        for _ in range(120):
            xi = 0.1 * torch.randn(2, generator=rng).double()
            steps_of(opt, lambda ps=ps, xi=xi: sum((0.5 * p * p + n * p) for p, n in zip(ps, xi, strict=True)), 1)
        found[name] = Numbers.of(Window.of(probe.log))
        assert probe.log.steps[-1]["lr"] == 0.02
    assert found["ab"].upper == pytest.approx(found["ba"].upper, rel=0.05)  # by sketches with other signs
    assert found["ab"].amplified == pytest.approx(found["ba"].amplified, rel=0.05)


def test_another_base_is_never_called_free():
    w = nn.Parameter(torch.tensor([3.0, 1.0]))
    for base, state in ((torch.optim.SGD, sm.diagnostics.State.FREE), (torch.optim.RMSprop, sm.diagnostics.State.UNDECIDED)):
        opt = sm.SAM(base([w], lr=1e-7), rho=1e-3)
        steps_of(opt, lambda: (w**2).sum() + 1, 1)  # a run that is watched from its start is not free before it has left it
        probe = sm.watch(opt, every=1, block=5)
        steps_of(opt, lambda: (w**2).sum() + 1, 40)
        found = sm.diagnose(probe)
        assert found.state is state
        assert any("RMSprop are treated as those of SGD" in remark for remark in found.remarks) is (base is torch.optim.RMSprop)
