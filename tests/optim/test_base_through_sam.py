"""A20, A21: what a base has of its own is reached through SAM, and what it keeps outside `p.grad` is cleared between passes."""

import pytest
import torch
from torch import nn

import sharpmin as sm


class Stored(torch.optim.SGD):
    """Steps with gradients that a hook adds up in a store of its own, as `main_grad` or per-sample gradients are."""

    def __init__(self, ps, lr=0.1):
        super().__init__(ps, lr=lr)
        self.store = {}
        for p in ps:
            p.register_post_accumulate_grad_hook(self.add)

    def add(self, p):
        self.store[p] = self.store.get(p, 0) + p.grad.clone()

    def zero_grad(self, set_to_none=True):
        super().zero_grad(set_to_none)
        self.store = {}

    @torch.no_grad()
    def step(self, closure=None):
        for p, g in self.store.items():
            p.add_(g, alpha=-self.param_groups[0]["lr"])


def by_two_steps(opt, backward):
    opt.zero_grad()
    backward()
    opt.first_step()
    backward()
    opt.second_step()


def test_gradients_outside_of_grad(quadratic, door):
    f = quadratic()
    opt = sm.SAM(Stored([f.w]), rho=0.5)
    door(opt, f)
    assert f.w.tolist() == pytest.approx([2.67, 0.44], abs=1e-12)


def test_gradients_outside_of_grad_by_two_steps(quadratic):
    f = quadratic()
    by_two_steps(sm.SAM(Stored([f.w]), rho=0.5), f)
    assert f.w.tolist() == pytest.approx([2.67, 0.44], abs=1e-12)


@pytest.mark.parametrize("rho", [0.0, sm.rho.Tail(0.5, start=9)], ids=str)
def test_at_rest_too(quadratic, door, rho):
    """The block's gradient, and not the sum of both passes."""
    f = quadratic()
    door(sm.SAM(Stored([f.w]), rho=rho), f)
    assert f.w.tolist() == pytest.approx([2.7, 0.6], abs=1e-12)


def test_one_store_among_several_bases(quadratic, door):
    f, other = quadratic(), nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def backward():
        loss = f()
        other.grad = torch.zeros_like(other)
        return loss

    door(sm.SAM([Stored([f.w]), torch.optim.SGD([other], lr=0.1)], rho=0.5), backward)
    assert f.w.tolist() == pytest.approx([2.67, 0.44], abs=1e-12)


class Modal(torch.optim.SGD):
    """A mode, as a schedule-free optimizer has, and a method that only sharded ones have."""

    mode = "train"

    def train(self):
        self.mode = "train"

    def eval(self):
        self.mode = "eval"

    def consolidate_state_dict(self, to=0):
        return f"to {to}"


def test_own_methods_reach_the_base(quadratic):
    base = Modal([quadratic().w], lr=0.1)
    opt = sm.SAM(base)
    opt.eval()
    assert (base.mode, opt.mode) == ("eval", "eval")
    opt.train()
    assert base.mode == "train"
    assert opt.consolidate_state_dict(to=3) == "to 3"


@pytest.mark.parametrize("name", ["train", "eval", "consolidate_state_dict"])
def test_they_are_there_only_if_the_base_has_them(quadratic, name):
    opt = sm.SAM(torch.optim.SGD([quadratic().w], lr=0.1))
    assert not hasattr(opt, name)
    with pytest.raises(AttributeError, match=f"'SAM' object has no attribute '{name}'"):
        getattr(opt, name)


def test_several_bases_are_all_called(quadratic):
    one, other = Modal([quadratic().w], lr=0.1), torch.optim.SGD([quadratic().w], lr=0.1)
    opt = sm.SAM([one, other])
    opt.eval()
    assert one.mode == "eval"
    assert not hasattr(opt, "consolidate")


def test_private_names_stay_with_their_owner(quadratic):
    """A base that scales for itself would get scaled gradients behind SAM's back."""
    base = Modal([quadratic().w], lr=0.1)
    base._step_supports_amp_scaling = True
    assert not hasattr(sm.SAM(base), "_step_supports_amp_scaling")


def test_base_optimizer_is_the_base(quadratic):
    base = Modal([quadratic().w], lr=0.1)
    opt = sm.SAM(base)
    assert opt.base_optimizer is opt.base is base
