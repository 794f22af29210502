"""Learning-rate schedulers on the wrapper drive the base, after whatever was done to the groups."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

import sharpmin as sm


def as_is(opt, f):
    pass


def loaded(opt, f):
    opt.load_state_dict(copy.deepcopy(opt.state_dict()))


def loaded_by_base(opt, f):
    opt.base.load_state_dict(copy.deepcopy(opt.base.state_dict()))


def replaced(opt, f):
    opt.param_groups[0] = dict(opt.param_groups[0])


def assigned(opt, f):
    opt.param_groups = [dict(group) for group in opt.param_groups]


def grown(opt, f):
    opt.add_param_group({"params": [nn.Parameter(torch.ones(1))]})


CHANGES = [as_is, loaded, loaded_by_base, replaced, assigned, grown]


@pytest.mark.parametrize("change", CHANGES[:-1], ids=lambda c: c.__name__)
@pytest.mark.parametrize("on", ["wrapper", "base"])
def test_step_lr(quadratic, door, change, on):
    """Two steps of 0.1 and 0.01; pytest turns a scheduler-order warning into an error."""
    f = quadratic()
    opt = sm.SAM(torch.optim.SGD([f.w], lr=0.1), rho=0.0)
    change(opt, f)
    scheduler = lr_scheduler.StepLR(opt if on == "wrapper" else opt.base, step_size=1, gamma=0.1)
    door(opt, f)
    scheduler.step()
    change(opt, f)
    assert opt.base.param_groups[0]["lr"] == pytest.approx(0.01, abs=1e-15)
    door(opt, f)
    assert f.w.tolist() == pytest.approx([3 * 0.9 * 0.99, 0.6 * 0.96], abs=1e-12)


@pytest.mark.parametrize("change", CHANGES, ids=lambda c: c.__name__)
def test_a_change_before_the_scheduler_is_seen_by_it(quadratic, door, change):
    f = quadratic()
    opt = sm.SAM(torch.optim.SGD([f.w], lr=0.1), rho=0.5)
    change(opt, f)
    scheduler = lr_scheduler.StepLR(opt, step_size=1, gamma=0.1)
    door(opt, f)
    scheduler.step()
    assert [group["lr"] for group in opt.base.param_groups] == pytest.approx([0.01] * len(opt.param_groups), abs=1e-15)


SCHEDULERS = {
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=10),
    "one-cycle": lambda o: lr_scheduler.OneCycleLR(o, max_lr=0.2, total_steps=10),
    "cyclic": lambda o: lr_scheduler.CyclicLR(o, base_lr=0.01, max_lr=0.1),
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda t: 1 / (t + 1)),
    "sequential": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o), lr_scheduler.ExponentialLR(o, 0.9)], milestones=[3]
    ),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers_see_the_same_optimizer_as_the_base_would_be(quadratic, door, name):
    """Learning rate and momentum follow the scheduler exactly as those of a bare base."""
    f, g = quadratic(), quadratic()
    opt, bare = sm.SAM(torch.optim.SGD([f.w], lr=0.1, momentum=0.9), rho=0.5), torch.optim.SGD([g.w], lr=0.1, momentum=0.9)
    mine, theirs = SCHEDULERS[name](opt), SCHEDULERS[name](bare)
    for _ in range(6):
        door(opt, f)
        bare.step()
        mine.step()
        theirs.step()
        keys = [key for key in bare.param_groups[0] if key != "params"]
        assert {key: opt.base.param_groups[0][key] for key in keys} == {key: bare.param_groups[0][key] for key in keys}


def test_reduce_on_plateau(quadratic, door):
    f = quadratic()
    opt = sm.SAM(torch.optim.SGD([f.w], lr=0.1), rho=0.5)
    scheduler = lr_scheduler.ReduceLROnPlateau(opt, patience=0, factor=0.5)
    for _ in range(3):
        door(opt, f)
        scheduler.step(1.0)
    assert opt.base.param_groups[0]["lr"] == 0.025


def test_rho_follows_the_learning_rate(quadratic, door):
    f = quadratic()
    opt = sm.SAM(torch.optim.SGD([f.w], lr=0.1), rho=sm.rho.ProportionalToLR(0.5, lr=0.1, power=0.5))
    scheduler = lr_scheduler.StepLR(opt, step_size=1, gamma=0.25)
    radii = []
    for _ in range(3):
        door(opt, f)
        scheduler.step()
        radii.append(opt.last.rho)
    assert radii == pytest.approx([0.5, 0.25, 0.125], abs=1e-15)
