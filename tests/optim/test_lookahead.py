"""Bases that hold another optimizer, and whose state dict has another shape: save and load go on bit for bit."""

import copy
import io
from collections import defaultdict

import pytest
import torch
from torch import nn

import sharpmin as sm


class Flat(torch.optim.Optimizer):
    """A Lookahead as in torch_optimizer: it leaves `Optimizer.__init__` out, and its load parts it from the one inside."""

    def __init__(self, optimizer, k=3, alpha=0.5):
        self.optimizer, self.k, self.alpha = optimizer, k, alpha
        self.param_groups = optimizer.param_groups
        self.state = defaultdict(dict)
        self.fast_state = optimizer.state
        for group in self.param_groups:
            group["counter"] = 0
        self.defaults = {"k": k, "alpha": alpha, **optimizer.defaults}

    def step(self, closure=None):
        self.optimizer.step()
        for group in self.param_groups:
            if group["counter"] == 0:
                for p in group["params"]:
                    slow = self.state[p].setdefault("slow_param", p.detach().clone())
                    p.data.mul_(self.alpha).add_(slow, alpha=1 - self.alpha)
                    slow.copy_(p.data)
            group["counter"] = (group["counter"] + 1) % self.k

    def state_dict(self):
        inside = self.optimizer.state_dict()
        slow = super().state_dict()["state"]
        return {"fast_state": inside["state"], "slow_state": slow, "param_groups": inside["param_groups"]}

    def load_state_dict(self, state_dict):
        groups = state_dict["param_groups"]
        super().load_state_dict({"state": state_dict["slow_state"], "param_groups": groups})
        self.optimizer.load_state_dict({"state": state_dict["fast_state"], "param_groups": groups})
        self.fast_state = self.optimizer.state

    def zero_grad(self, set_to_none=False):
        self.optimizer.zero_grad(set_to_none)


class Nested(torch.optim.Optimizer):
    """A Lookahead as in pytorch_optimizer: its state dict has that of the optimizer inside under a name of its own."""

    def __init__(self, optimizer, k=3, alpha=0.5):
        self.optimizer, self.k, self.alpha = optimizer, k, alpha
        self._optimizer_step_pre_hooks, self._optimizer_step_post_hooks = {}, {}
        self._patch_step_function()
        self.state = defaultdict(dict)
        for group in self.param_groups:
            group.setdefault("counter", 0)
            for p in group["params"]:
                self.state[p]["slow"] = p.detach().clone()
        self.defaults = dict(optimizer.defaults)

    @property
    def param_groups(self):
        return self.optimizer.param_groups

    def __getstate__(self):
        return {"state": self.state, "optimizer": self.optimizer, "k": self.k, "alpha": self.alpha, "defaults": self.defaults}

    def zero_grad(self, set_to_none=True):
        self.optimizer.zero_grad(set_to_none)

    @torch.no_grad()
    def step(self, closure=None):
        self.optimizer.step()
        for group in self.param_groups:
            group["counter"] = (group["counter"] + 1) % self.k
            if group["counter"] == 0:
                for p in group["params"]:
                    p.lerp_(self.state[p]["slow"], 1 - self.alpha)
                    self.state[p]["slow"].copy_(p)

    def state_dict(self):
        numbered = enumerate(p for group in self.param_groups for p in group["params"])
        return {"slow": {i: dict(self.state[p]) for i, p in numbered}, "base_optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state):
        self.optimizer.load_state_dict(state["base_optimizer"])
        parameters = [p for group in self.param_groups for p in group["params"]]
        for p, own in zip(parameters, state["slow"].values(), strict=True):
            self.state[p] = {k: v.clone() for k, v in own.items()}


X, Y = torch.randn(30, 8, 4, generator=torch.Generator().manual_seed(0)).double(), torch.arange(8) % 3


def build(kind, rho=0.1, wrap=True):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    groups = [{"params": list(net[0].parameters())}, {"params": list(net[2].parameters()), "lr": 0.02}]
    base = kind(torch.optim.Adam(groups, lr=0.05))
    opt = sm.SAM(base, rho=rho, model=net, ascent=sm.Ema(0.5)) if wrap else base
    return net, opt, torch.optim.lr_scheduler.StepLR(opt, 4, 0.5)


def train(net, opt, scheduler, start, end):
    for i in range(start, end):

        def closure(x=X[i]):
            opt.zero_grad()
            loss = nn.functional.cross_entropy(net(x), Y)
            loss.backward()
            return loss

        if isinstance(opt, sm.SAM):
            opt.step(closure)
        else:
            closure()
            opt.step()
        scheduler.step()


def through_a_file(value, weights_only=True):
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=weights_only)


RHOS = [0.1, sm.rho.Cosine(0.2, 20)]


@pytest.mark.parametrize("rho", RHOS, ids=repr)
@pytest.mark.parametrize("kind", [Flat, Nested])
def test_a_resumed_run_is_the_unbroken_one(kind, rho):
    whole = build(kind, rho)
    train(*whole, start=0, end=20)
    part = build(kind, rho)
    train(*part, start=0, end=10)
    saved = through_a_file([item.state_dict() for item in part])
    again = build(kind, rho)
    for item, state in zip(again, saved, strict=True):
        item.load_state_dict(state)
    assert again[1]._passes.groups.count() == 10
    train(*again, start=10, end=20)
    assert again[1]._passes.groups.count() == 20
    assert again[1].rho == rho
    assert all(torch.equal(p, q) for p, q in zip(again[0].parameters(), whole[0].parameters(), strict=True))
    assert again[1].base.optimizer.param_groups[0] is again[1].param_groups[0]


@pytest.mark.parametrize("kind", [Flat, Nested])
def test_a_radius_of_a_group_comes_back(kind):
    part = build(kind)
    part[1].param_groups[1]["rho"] = 0.3
    train(*part, start=0, end=5)
    again = build(kind)
    again[1].load_state_dict(through_a_file(part[1].state_dict()))
    assert again[1].rho == [0.1, 0.3]


def test_a_bare_checkpoint_of_another_shape_loads():
    bare = build(Nested, wrap=False)
    train(*bare, start=0, end=5)
    again = build(Nested)
    again[1].load_state_dict(through_a_file(bare[1].state_dict()))
    assert again[1].rho == 0.1
    assert again[1]._passes.groups.count() == 0
    train(*again, start=5, end=10)
    assert again[1].last.stepped


def test_ours_loads_into_the_bare_base():
    part = build(Nested, rho=0.0)
    train(*part, start=0, end=5)
    bare = build(Nested, wrap=False)
    bare[0].load_state_dict(part[0].state_dict())
    bare[1].load_state_dict(through_a_file(part[1].state_dict()))
    bare[2].load_state_dict(part[2].state_dict())
    train(*bare, start=5, end=8)
    train(*part, start=5, end=8)
    assert all(torch.equal(p, q) for p, q in zip(part[0].parameters(), bare[0].parameters(), strict=True))


@pytest.mark.parametrize("kind", [Flat, Nested])
def test_a_copy_goes_on_as_the_original_does(kind):
    run = build(kind)
    train(*run, start=0, end=5)
    net, opt = copy.deepcopy(run[:2])
    for some_net, some_opt in ((net, opt), run[:2]):
        train(some_net, some_opt, torch.optim.lr_scheduler.StepLR(some_opt, 100), 5, 9)
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), run[0].parameters(), strict=True))


def test_refused_before_anything_has_changed():
    run = build(Nested)
    train(*run, start=0, end=5)
    state = run[1].state_dict()
    assert set(state) == {"slow", "base_optimizer", "sharpmin"}
    was = copy.deepcopy(state)
    bad = copy.deepcopy(state)
    bad["sharpmin"]["groups"][0]["sharpmin_step"] = float("nan")
    with pytest.raises(ValueError, match="sharpmin_step"):
        run[1].load_state_dict(bad)
    now = run[1].state_dict()
    assert str(now) == str(was)
