"""A6: five steps here, a checkpoint, five more in a new process: the bits of ten steps that were never broken."""

import io
import subprocess
import sys

import pytest
import torch

SCRIPT = """
import sys, torch, sharpmin as sm
from torch import nn
torch.set_num_threads(1)
rho = sm.rho.Cosine(0.2, steps=8)
adam = {"lr": 0.05, "amsgrad": True}
sgd = {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-2}
Adam, SGD = torch.optim.Adam, torch.optim.SGD

CASES = {  # base, its options, options of SAM, dtype
    "adam": (Adam, adam, {"rho": rho}, torch.float32),
    "number": (Adam, adam, {"rho": 0.2}, torch.float32),
    "fused": (Adam, {"lr": 0.05, "fused": True}, {"rho": rho}, torch.float32),
    "tensor lr": (Adam, {"lr": torch.tensor(0.05)}, {"rho": sm.rho.ProportionalToLR(0.2, lr=0.1, power=0.5)}, torch.float32),
    "ema": (Adam, adam, {"rho": rho, "ascent": sm.Ema(0.3)}, torch.float32),
    "ema on sgd": (SGD, sgd, {"rho": sm.rho.Every(0.2, k=3), "ascent": sm.Ema(0.3)}, torch.float64),
    "elementwise": (Adam, adam, {"rho": sm.rho.InverseSqrt(0.5), "geometry": sm.Elementwise(0.01)}, torch.float32),
    "momentum": (SGD, sgd, {"rho": sm.rho.Capped(0.2, c=0.5), "ascent": sm.Momentum()}, torch.float32),
    "clipped": (SGD, sgd, {"rho": sm.rho.Tail(0.5, start=4), "descent": sm.ClippedDifference(0.3)}, torch.float32),
    "microbatch": (SGD, sgd, {"rho": rho, "scope": "microbatch", "descent": sm.Mix(0.4)}, torch.float32),
    "micro ema": (SGD, sgd, {"rho": rho, "scope": "microbatch", "ascent": sm.Ema(0.3)}, torch.float32),
    "bfloat16": (Adam, adam, {"rho": rho, "rounding": "stochastic"}, torch.bfloat16),
    "bfloat16 ema": (SGD, sgd, {"rho": rho, "rounding": "stochastic", "ascent": sm.Ema(0.3)}, torch.bfloat16),
}

def build(name):
    base, options, parts, dtype = CASES[name]
    torch.manual_seed(3)
    net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.3), nn.Linear(6, 2)).to(dtype)
    options = {k: v.clone() if torch.is_tensor(v) else v for k, v in options.items()}
    groups = [{"params": net[0].parameters()}, {"params": net[1].parameters(), "rho": 0.0}, {"params": net[4].parameters()}]
    opt = sm.SAM(base(groups, **options), model=net, **parts)
    return net, opt, torch.optim.lr_scheduler.CosineAnnealingLR(opt, T_max=10)

def train(net, opt, scheduler, steps):
    for step in steps:
        torch.manual_seed(step)
        opt.zero_grad()
        for x in torch.randn(2 if opt.scope == "microbatch" else 1, 8, 4).to(net[0].weight.dtype):
            if opt.ascent.needs_clean:
                with opt.clean():
                    net(x).square().mean().backward()
            with opt.perturbed():
                net(x).square().mean().backward()
        opt.step()
        scheduler.step()

def everything(net, opt, scheduler):
    return {"net": net.state_dict(), "opt": opt.state_dict(), "scheduler": scheduler.state_dict(), "last": vars(opt.last)}

def resume(folder):
    for name in CASES:
        parts = build(name)
        state = torch.load(f"{folder}/{name}.pt", weights_only=True)
        for part, key in zip(parts, ("net", "opt", "scheduler"), strict=True):
            part.load_state_dict(state[key])
        train(*parts, range(5, 10))
        torch.save(everything(*parts), f"{folder}/{name} resumed.pt")

if __name__ == "__main__":
    resume(sys.argv[1])
"""
names = {"__name__": "script"}
exec(compile(SCRIPT, "script", "exec"), names)
build, train, everything, CASES = (names[key] for key in ("build", "train", "everything", "CASES"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """All runs, resumed in one new process."""
    path = tmp_path_factory.mktemp("runs")
    for name in CASES:
        parts = build(name)
        train(*parts, range(5))
        torch.save(everything(*parts), path / f"{name}.pt")
    (path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, path / "script.py", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return path


@pytest.mark.parametrize("name", CASES)
def test_the_same_bits(folder, bits, name):
    unbroken = build(name)
    train(*unbroken, range(10))
    resumed = torch.load(folder / f"{name} resumed.pt", weights_only=True)
    half = torch.load(folder / f"{name}.pt", weights_only=True)
    assert bits(resumed) == bits(everything(*unbroken))
    assert bits(resumed["net"]) != bits(half["net"])
    assert {group["sharpmin_step"] for group in resumed["opt"]["param_groups"]} == {10}


def size(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.tell()


@pytest.mark.parametrize("name", CASES)
def test_the_size(folder, name):
    """That of the base and 10 kB at most; an Ema is as large as the weights."""
    state = torch.load(folder / f"{name}.pt", weights_only=True)["opt"]
    base, options, *_ = CASES[name]
    net, *_ = build(name)
    bare = base(net.parameters(), **options).state_dict()
    extra = size(state) - size({"state": state["state"], "param_groups": bare["param_groups"]})
    ema = sum(t.nbytes for t in state.get("sharpmin", {}).get("ascent", {}).values())
    assert (ema > 0) == ("ema" in name)
    assert extra - ema <= 10_000
    assert set(state) == {"state", "param_groups"} | ({"sharpmin"} if ema else set())
    assert {k for entry in state["state"].values() for k in entry} <= {
        "step",
        "exp_avg",
        "exp_avg_sq",
        "max_exp_avg_sq",
        "momentum_buffer",
    }
