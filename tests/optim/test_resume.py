"""Saved, loaded in a fresh process, and continued: bit-identical to the run that was never broken."""

import io
import subprocess
import sys

import pytest
import torch
from torch import nn

import sharpmin as sm

SCRIPT = """
import sys, torch, sharpmin as sm
from torch import nn
torch.set_num_threads(1)

RHO = {
    "number": 0.05,
    "cosine": sm.rho.Cosine(0.05, steps=8),
    "inverse-sqrt": sm.rho.InverseSqrt(0.05),
    "every": sm.rho.Every(sm.rho.InverseSqrt(0.05), k=3),
    "follows-lr": sm.rho.ProportionalToLR(0.05, lr=0.1),
}

def build(rho):
    torch.manual_seed(3)
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
    opt = sm.SAM(torch.optim.Adam(net.parameters(), lr=0.1), rho=RHO[rho])
    return net, opt, torch.optim.lr_scheduler.CosineAnnealingLR(opt, T_max=10)

def train(net, opt, scheduler, steps):
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        x, y = torch.randn(8, 4, generator=generator), torch.randn(8, 2, generator=generator)
        def closure():
            opt.zero_grad()
            loss = nn.functional.mse_loss(net(x), y)
            loss.backward()
            return loss
        opt.step(closure)
        scheduler.step()

def everything(net, opt, scheduler):
    return {"net": net.state_dict(), "opt": opt.state_dict(), "scheduler": scheduler.state_dict()}

def resume(rho, saved, out):
    parts = build(rho)
    state = torch.load(saved, weights_only=True)
    for part, key in zip(parts, ("net", "opt", "scheduler"), strict=True):
        part.load_state_dict(state[key])
    train(*parts, range(5, 10))
    torch.save(everything(*parts), out)

if __name__ == "__main__":
    for rho in sys.argv[1:]:
        resume(rho, f"{rho}-half.pt", f"{rho}-full.pt")
"""
RHO = ["number", "cosine", "inverse-sqrt", "every", "follows-lr"]


@pytest.fixture
def script():
    names = {"__name__": "script"}
    exec(compile(SCRIPT, "script", "exec"), names)
    return names


def test_resume_in_a_fresh_process(script, tmp_path, bits):
    for rho in RHO:
        half = script["build"](rho)
        script["train"](*half, range(5))
        torch.save(script["everything"](*half), tmp_path / f"{rho}-half.pt")
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "script.py", *RHO]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for rho in RHO:
        unbroken = script["build"](rho)
        script["train"](*unbroken, range(10))
        assert bits(torch.load(tmp_path / f"{rho}-full.pt", weights_only=True)) == bits(script["everything"](*unbroken)), rho


def stored(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer


@pytest.mark.parametrize("phase", ["clean", "ready"])
def test_a_checkpoint_is_the_base_s_and_five_plain_values(training, door, phase):
    f = training()
    opt = sm.SAM(torch.optim.Adam(f.net.parameters(), lr=0.1), rho=0.05)
    door(opt, f)
    if phase == "ready":
        f()
        with opt.perturbed():
            f()
    state, base = opt.state_dict(), torch.optim.Adam(f.net.parameters(), lr=0.1).state_dict()
    assert set(state) == {"state", "param_groups"}
    own = {"rho", "sharpmin_step", "sharpmin_climbed", "sharpmin_passes", "sharpmin_scope"}
    assert set(state["param_groups"][0]) - set(base["param_groups"][0]) == own
    assert all(set(entry) == {"step", "exp_avg", "exp_avg_sq"} for entry in state["state"].values())


def test_size(door):
    net = nn.Linear(200, 200)
    opt = sm.SAM(torch.optim.Adam(net.parameters()), rho=sm.rho.Cosine(0.05, steps=10))
    door(opt, lambda: net(torch.ones(1, 200)).sum().backward())
    bare = {**opt.state_dict(), "param_groups": torch.optim.Adam(net.parameters()).state_dict()["param_groups"]}
    assert stored(opt.state_dict()).tell() <= stored(bare).tell() + 10_000


@pytest.mark.parametrize("number", [0.05, 1, "numpy"])
def test_weights_only_load(quadratic, number):
    import numpy as np

    f = quadratic()
    opt = sm.SAM(torch.optim.SGD([f.w], lr=0.1), rho=np.float64(0.25) if number == "numpy" else number)
    buffer = stored(opt.state_dict())
    buffer.seek(0)
    assert torch.load(buffer, weights_only=True)["param_groups"][0]["rho"] == (0.25 if number == "numpy" else number)


def test_a_bare_checkpoint_loads(training, door, bits):
    """Trained without SAM so far: the state comes over, the schedule starts at its beginning."""
    f = training()
    base = torch.optim.Adam(f.net.parameters(), lr=0.25)
    f()
    base.step()
    opt = sm.SAM(torch.optim.Adam(f.net.parameters(), lr=0.1), rho=sm.rho.InverseSqrt(0.05))
    for _ in range(3):
        door(opt, f)
    opt.load_state_dict(base.state_dict())
    group = opt.param_groups[0]
    assert bits(opt.state_dict()["state"]) == bits(base.state_dict()["state"])
    assert (group["lr"], group["rho"], group["sharpmin_step"]) == (0.25, sm.rho.InverseSqrt(0.05), 0)
    door(opt, f)
    assert opt.last.rho == 0.05


def test_our_checkpoint_loads_into_the_bare_base(training, door, bits):
    f = training()
    opt = sm.SAM(torch.optim.Adam(f.net.parameters(), lr=0.1), rho=0.05)
    door(opt, f)
    base = torch.optim.Adam(f.net.parameters(), lr=0.5)
    base.load_state_dict(opt.state_dict())
    assert bits(base.state_dict()["state"]) == bits(opt.state_dict()["state"])
    f()
    base.step()
    assert base.state_dict()["state"][0]["step"] == 2


@pytest.mark.parametrize(
    ("saved", "live", "after"),
    [
        (0.1, 0.2, 0.1),
        (0.1, sm.rho.InverseSqrt(0.2), sm.rho.InverseSqrt(0.2)),
        (sm.rho.InverseSqrt(0.1), 0.2, 0.2),
        (sm.rho.InverseSqrt(0.1), sm.rho.InverseSqrt(0.2), sm.rho.InverseSqrt(0.2)),
    ],
    ids=str,
)
def test_a_live_schedule_stays_and_a_number_is_state(quadratic, saved, live, after):
    f = quadratic()
    state = sm.SAM(torch.optim.SGD([f.w], lr=0.1), rho=saved).state_dict()
    opt = sm.SAM(torch.optim.SGD([f.w], lr=0.1), rho=live)
    opt.load_state_dict(state_dict=state)
    assert opt.param_groups[0]["rho"] == after


def test_radii_per_group_come_back(door):
    a, b = (nn.Parameter(torch.ones(1)) for _ in range(2))
    groups = [{"params": [a], "rho": 0.25}, {"params": [b]}]
    opt = sm.SAM(torch.optim.SGD(groups, lr=0.1), rho=0.05)
    door(opt, lambda: (a + b).sum().backward())
    other = sm.SAM(torch.optim.SGD([{"params": [a]}, {"params": [b]}], lr=0.1), rho=0.5)
    other.load_state_dict(opt.state_dict())
    assert [(g["rho"], g["sharpmin_step"]) for g in other.param_groups] == [(0.25, 1), (0.05, 1)]


def test_a_checkpoint_that_does_not_fit_changes_nothing(quadratic, bits):
    f = quadratic()
    opt = sm.SAM(torch.optim.SGD([f.w], lr=0.1), rho=sm.rho.InverseSqrt(0.05))
    before = bits(opt.state_dict())
    with pytest.raises(ValueError, match="different number of parameter groups"):
        opt.load_state_dict({"state": {}, "param_groups": []})
    assert bits(opt.state_dict()) == before
    assert opt.param_groups[0]["rho"] == sm.rho.InverseSqrt(0.05)


def test_a_skipped_step_does_not_move_the_schedule(quadratic, door):
    f = quadratic()
    opt = sm.SAM(torch.optim.SGD([f.w], lr=0.1), rho=sm.rho.InverseSqrt(0.05))

    def spoiled():
        f()
        f.w.grad.fill_(float("nan"))

    counts = []
    for backward in (f, spoiled, f):
        door(opt, backward)
        counts.append(opt.param_groups[0]["sharpmin_step"])
    assert counts == [1, 1, 2]


def test_a_load_gives_up_a_second_pass_that_was_not_stepped_with(training):
    f = training()
    opt = sm.SAM(torch.optim.SGD(f.net.parameters(), lr=0.1), rho=0.05)
    state = opt.state_dict()
    f()
    with opt.perturbed():
        f()
    opt.load_state_dict(state)
    with pytest.raises(sm.PhaseError):
        opt.step()
