"""Watching, the verdict and the sharpness probes, with known answers."""

import pytest
import torch
from torch import nn

import sharpmin as sm
from sharpmin import diagnostics

ENTRIES = 100


def noisy_quadratic(device, *, rho, steps=1000, block=50):
    """SAM on a quadratic with noisy gradients, watched; the noise is the same on every device."""
    curvature = torch.linspace(0.5, 1.0, ENTRIES, dtype=torch.float64, device=device)
    w = nn.Parameter(torch.ones(ENTRIES, dtype=torch.float64, device=device))
    rng = torch.Generator().manual_seed(0)
    opt = sm.SAM(torch.optim.SGD([w], lr=0.1), rho=rho)
    probe = sm.watch(opt, every=2, block=block)

    def closure():
        w.grad = curvature * w.detach() + xi
        return 0.5 * (curvature * w.detach().square()).sum()

    for _ in range(steps):
        xi = (0.1 * torch.randn(ENTRIES, generator=rng, dtype=torch.float64)).to(device)
        opt.step(closure)
    return probe, opt


@pytest.mark.parametrize(
    ("rho", "words"), [(0.5, "rho holds the loss up, a large effect"), (0.002, "SAM is not what limits the loss")]
)
def test_the_verdict(device, rho, words):
    probe, opt = noisy_quadratic(device, rho=rho)
    assert str(sm.diagnose(probe)).splitlines()[0] == f"{words}."
    assert probe.step == opt.param_groups[0]["sharpmin_step"] == 1000


def test_rows_are_those_of_a_cpu(device):
    """The same steps, watched on the CPU: the same numbers, whatever wait they have had on the device."""
    rows = []
    for where in ("cpu", device):
        found = []
        w = nn.Parameter(torch.linspace(-1.0, 1.0, 300, dtype=torch.float64, device=where))
        opt = sm.SAM(torch.optim.SGD([w], lr=0.1), rho=0.3)
        probe = sm.watch(opt, every=2, block=4, to=found.append)
        for _ in range(12):
            opt.zero_grad()
            w.square().square().sum().backward()
            with opt.perturbed():
                w.square().square().sum().backward()
            opt.step()
        probe.close()
        rows.append([row for row in found if row["kind"] != "run"])
    assert len(rows[0]) == len(rows[1]) > 0
    for mine, theirs in zip(*rows, strict=True):
        assert mine.pop("id") != theirs.pop("id")
        assert mine.keys() == theirs.keys()
        for key, value in mine.items():
            assert theirs[key] == (pytest.approx(value, rel=1e-9) if isinstance(value, float) else value), key


class Bowl(nn.Module):
    """f(w) = w' diag(1, 3, 4) w / 2, whatever the data."""

    def __init__(self, device):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(3, dtype=torch.float64, device=device))
        self.curvature = torch.tensor([1.0, 3.0, 4.0], dtype=torch.float64, device=device)

    def forward(self, x):
        return 0.5 * (self.curvature * self.w * self.w).sum() + 0 * x.sum()


def test_the_probes(device):
    model = Bowl(device)
    x = torch.zeros(4, 1, dtype=torch.float64, device=device)

    def loss_fn(output, target):
        return output

    data = [(x, x)]
    spectrum = diagnostics.hessian_spectrum(model, loss_fn, data)
    assert spectrum.largest[0] == pytest.approx(4.0, rel=1e-3)
    assert spectrum.smallest[0] == pytest.approx(1.0, rel=1e-3)
    trace = diagnostics.hessian_trace(model, loss_fn, data)
    assert trace.value == pytest.approx(8.0, rel=1e-6)  # of a diagonal matrix one probe says all
    worst = diagnostics.worst_loss(model, loss_fn, data, rho=0.5)
    assert worst.worst_loss == pytest.approx(0.5 * 4.0 * 0.5**2, rel=1e-3)
    each = diagnostics.m_sharpness(model, loss_fn, data, m=2, rho=0.5, steps=20)
    assert (each.groups, each.worst_loss) == (2, pytest.approx(0.5 * 4.0 * 0.5**2, rel=1e-3))
    assert not model.w.any()
