"""Memory between the passes: one copy of the weights, and little more."""

import pytest
import torch
from torch import nn

import sharpmin as sm

MIB = 2**20
SHAPES = {"many": [(1024, 1024)] * 64, "few": [(2048, 4096)] * 8}  # 256 MiB in float32
SETTINGS = {"sam": {}, "telemetry": {"telemetry": True}, "unnormalized": {"rho": sm.rho.Unnormalized(0.05)}}


@pytest.mark.gpu
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("shapes", SHAPES)
def test_the_way_to_the_perturbed_weights(shapes, setting):
    weights = [nn.Parameter(torch.zeros(shape, device="cuda")) for shape in SHAPES[shapes]]
    opt = sm.SAM(torch.optim.SGD(weights, lr=0.1), **{"rho": 1.0, **SETTINGS[setting]})
    for _ in range(2):  # the second step has whatever the first one keeps
        for w in weights:
            w.grad = torch.ones_like(w)
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        opt.perturb()
        torch.cuda.synchronize()
        grown = torch.cuda.max_memory_allocated() - before
        for w in weights:
            w.grad = torch.ones_like(w)
        opt.restore()
        opt.step()
    assert grown <= (256 + 64) * MIB
    assert opt.last.dual_norm == pytest.approx(2.0**13, rel=1e-5)
    for w in weights:
        torch.testing.assert_close(w.detach(), torch.full_like(w, -0.2))
        assert w.grad is not None
