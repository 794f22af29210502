"""What frameworks look for on an optimizer, read in their sources, and whether they find it on a SAM."""

import importlib.util
import inspect
import re
from pathlib import Path

import pytest
import torch
from torch import nn

import sharpmin as sm

LOOKED_FOR = re.compile(r"(?:hasattr|getattr)\(\s*(?:\w+\.)*(?:optimizer|optim|opt)\s*,\s*[\"'](\w+)[\"']")
PLACES = ["lightning/pytorch", "lightning/fabric", "transformers/trainer*.py", "accelerate", "torch/amp", "torch/optim"]

KNOWN = {
    "train": "forwarded: a schedule-free base moves its weights",
    "eval": "forwarded: the same",
    "consolidate_state_dict": "forwarded: a ZeroRedundancyOptimizer brings its shards to one rank before a checkpoint",
    "defaults": "SAM's own property, which is the base's",
    "lr": "DeepSpeed's, which is refused",
    "overflow": "DeepSpeed's, which is refused",
    "optimizer": "forwarded if the base has it; the frameworks mean DeepSpeed's wrapper by it",
    "_step_supports_amp_scaling": "not forwarded: a fused base would be handed scaled gradients, and SAM between would not",
    "grad_scale": "only read where the last one is true",
    "_is_accelerate_prepared": "not forwarded: a SAM around a prepared base is not prepared itself",
    "_opt_called": "SAM's own: the scheduler around it has patched its step, not the base's",
}


def looked_for():
    found = set()
    for place in PLACES:
        package, _, rest = place.partition("/")
        home = Path(importlib.util.find_spec(package).origin).parent
        files = home.glob(rest) if "*" in rest else (home / rest).rglob("*.py")
        for file in files:
            found |= set(LOOKED_FOR.findall(file.read_text()))
    return found


def test_every_one_is_known():
    assert looked_for() == KNOWN.keys()


class Special(torch.optim.SGD):
    """Has all of them."""

    _step_supports_amp_scaling = _is_accelerate_prepared = True
    grad_scale = lr = overflow = optimizer = 1

    def train(self):
        return "train"

    def eval(self):
        return "eval"

    def consolidate_state_dict(self, to=0):
        return to


@pytest.mark.parametrize("name", KNOWN)
def test_it_is_found_or_not(name):
    net = nn.Linear(1, 1)
    plain, special = torch.optim.SGD(net.parameters(), lr=0.1), Special(net.parameters(), lr=0.1)
    assert hasattr(sm.SAM(plain), name) is hasattr(plain, name)
    if name.startswith("_"):
        assert not hasattr(sm.SAM(special), name)
    else:
        assert getattr(sm.SAM(special), name) == getattr(special, name)


def test_signatures():
    """Accelerate asks whether `zero_grad` takes `set_to_none`, and a GradScaler whether `step` takes a `grad_scaler`."""
    opt = sm.SAM(torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1))
    assert "set_to_none" in inspect.signature(opt.zero_grad).parameters
    assert list(inspect.signature(opt.step).parameters) == ["closure"]


def test_a_fused_base_under_a_scaler():
    """It gets gradients that are unscaled, as if it were not fused."""
    ends = []
    for fused in (False, True):
        torch.manual_seed(0)
        net, scaler = nn.Linear(4, 1), torch.amp.GradScaler("cpu", init_scale=16.0)
        opt = sm.SAM(torch.optim.SGD(net.parameters(), lr=0.1, fused=fused), rho=0.1, model=net)
        assert getattr(opt.base, "_step_supports_amp_scaling", False) is fused
        for x in torch.randn(3, 8, 4, generator=torch.Generator().manual_seed(1)):
            scaler.scale(net(x).square().mean()).backward()
            with opt.perturbed(scaler):
                scaler.scale(net(x).square().mean()).backward()
            scaler.step(opt)
            scaler.update()
            opt.zero_grad()
        ends.append(net.weight.detach())
    torch.testing.assert_close(*ends)
