"""An accelerator is never waited for between the passes, and not in `step` either unless asked."""

import pytest
import torch
from torch import nn

import sharpmin as sm

READS = ["item", "tolist", "__bool__", "__float__", "__int__", "__index__", "numpy"]


@pytest.fixture
def no_reads(accelerator, monkeypatch):
    """Any read of a tensor's value by the host is an error until `undo`."""

    def refuse(*_):
        raise AssertionError("the host read a value from the device")

    with monkeypatch.context() as patch:
        for name in READS:
            patch.setattr(torch.Tensor, name, refuse)
        yield patch


RADII = {
    "number": (0.5, 0.5),
    "two numbers": (0.5, 0.25),
    "at rest": (0.5, 0.0),
    "unnormalized": (sm.rho.Unnormalized(0.5), sm.rho.Unnormalized(0.5)),
    "capped and number": (sm.rho.Capped(0.5, c=0.1), 0.25),
    "number and unnormalized": (0.5, sm.rho.Unnormalized(0.25)),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("radii", RADII)
@pytest.mark.parametrize("scale", [0.0, 1.0, float("inf")])
def test_no_read(*, no_reads, dtype, radii, scale):
    a, b = (nn.Parameter(torch.ones(2, dtype=dtype)) for _ in range(2))
    groups = [{"params": [p], "rho": rho} for p, rho in zip((a, b), RADII[radii], strict=True)]
    opt = sm.SAM(torch.optim.SGD(groups, lr=0.1), rho=0.5)
    for p in (a, b):
        p.grad = torch.full_like(p, scale)
    opt.perturb()
    inside = [p.detach().clone() for p in (a, b)]
    for p in (a, b):
        p.grad = torch.ones_like(p)
    opt.restore()
    opt.step()
    no_reads.undo()
    moved = sum((w.double() - 1).square().sum().item() for w in inside) ** 0.5
    tolerance = 5e-2 if dtype is torch.bfloat16 else 1e-6
    assert opt.last.radius == pytest.approx(moved, rel=tolerance)
    assert (moved > 0) == (scale == 1.0)
    assert opt.last.stepped
    assert all(torch.equal(p, torch.full_like(p, 0.9)) for p in (a, b))


def test_a_read_is_seen(no_reads):
    with pytest.raises(AssertionError, match="host read"):
        bool(torch.ones(()))


def test_a_float_radius_that_is_bad_is_refused_without_knowing_the_norm(accelerator, bits):
    class Bad(sm.rho.Constant):
        def __call__(self, info):
            return -1.0

    p = nn.Parameter(torch.ones(2))
    p.grad = torch.ones(2)
    opt = sm.SAM(torch.optim.SGD([p], lr=0.1), rho=Bad(1.0))
    with pytest.raises(ValueError, match=r"gave the radius -1\.0"):
        opt.perturb()
    assert bits(p) == bits(torch.ones(2))


def test_step_without_a_second_pass_is_judged_by_the_values(accelerator, quadratic):
    f = quadratic()
    opt = sm.SAM(torch.optim.SGD([f.w], lr=0.1), rho=0.5)
    f.w.grad = torch.zeros_like(f.w)
    opt.step()
    f()
    with pytest.raises(sm.PhaseError):
        opt.step()
