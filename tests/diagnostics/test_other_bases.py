"""Watching and the toggle around bases of every kind: attributes of their own, several of them, steps that no formula knows."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import lr_scheduler

import sharpmin as sm
from sharpmin.diagnostics import State, toggle


class Doubled(torch.optim.SGD):
    """Steps by an attribute that is neither in a group nor in the state."""

    def __init__(self, params, **options):
        super().__init__(params, **options)
        self.times = 2.0

    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.grad.mul_(self.times)
        super().step()


class Lion(torch.optim.Optimizer):
    """Along the sign of an average."""

    def __init__(self, params, lr=1e-3):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                p.add_((0.9 * m + 0.1 * p.grad).sign(), alpha=-group["lr"])
                m.mul_(0.99).add_(p.grad, alpha=0.01)


def muon_and_adamw(net):
    flat = [p for p in net.parameters() if p.ndim == 2]
    rest = [p for p in net.parameters() if p.ndim != 2]
    return [torch.optim.Muon(flat, lr=0.01), torch.optim.AdamW(rest, lr=0.01)]


BASES = {
    "SGD": lambda net: torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9),
    "AdamW": lambda net: torch.optim.AdamW(net.parameters(), lr=0.003),
    "attributes": lambda net: Doubled(net.parameters(), lr=0.02),
    "several": lambda net: [torch.optim.SGD(net[0].parameters(), lr=0.05), torch.optim.AdamW(net[2].parameters(), lr=0.003)],
    "Muon and AdamW": muon_and_adamw,
    "Lion": lambda net: Lion(net.parameters()),
    "Adafactor": lambda net: torch.optim.Adafactor(net.parameters(), lr=0.01),
}
KNOWN = {"SGD", "AdamW"}


def built(name, rho=0.05):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3)).double()
    opt = sm.SAM(BASES[name](net), rho=rho)
    return net, opt, lr_scheduler.StepLR(opt, 3, 0.7)


def batches(count, seed=1):
    rng = torch.Generator().manual_seed(seed)
    rows = [torch.randn(8, 6, generator=rng, dtype=torch.float64) for _ in range(count)]
    return [(x, x[:, :3].argmax(1)) for x in rows]


def step(model, opt, batch):
    x, y = batch

    def closure():
        opt.zero_grad()
        loss = cross_entropy(model(x), y)
        loss.backward()
        return loss

    return opt.step(closure)


@pytest.mark.parametrize("name", BASES)
def test_the_branches_of_a_toggle_are_the_run_and_the_base_alone(name):
    """Bit for bit, with a scheduler; and the run has not moved."""
    net, opt, scheduler = built(name)
    for batch in batches(5):
        step(net, opt, batch)
        scheduler.step()
    ahead, before = batches(21, seed=2), copy.deepcopy(net.state_dict())
    found = toggle(net, opt, step, ahead, scheduler=scheduler)
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), before.values(), strict=True))
    without = copy.deepcopy((net, opt, scheduler))
    without[1].rho = 0.0
    for branch, (model, own, its) in (("rho", (net, opt, scheduler)), ("rho = 0", without)):
        losses = []
        for batch in ahead:
            losses.append(step(model, own, batch).item())
            its.step()
        assert found.losses[branch] == losses


@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step.*before")
@pytest.mark.parametrize("name", BASES)
def test_a_verdict_about_steps_that_no_formula_knows_is_a_guess(name):
    net, opt, scheduler = built(name, rho=1e-6)  # nothing is smaller: SAM is free wherever that can be known
    probe = sm.watch(opt, every=1, block=40, scheduler=scheduler)
    for batch in batches(320):
        step(net, opt, batch)
    found = sm.diagnose(probe)
    guess = [remark for remark in found.remarks if remark.endswith("so the predicted fall is a guess")]
    assert (found.state, len(guess)) == ((State.FREE, 0) if name in KNOWN else (State.UNDECIDED, 1))
