"""Steps that move nothing, as torch.distributed.checkpoint takes them, and schedules in checkpoints of the base."""

import pytest
import torch
from torch import nn

import sharpmin as sm


def built(lr, grad, base=torch.optim.Adam):
    w = nn.Parameter(torch.tensor([3.0, 1.0]))
    opt = sm.SAM(base([w], lr=lr), rho=0.1)
    w.grad = torch.tensor(grad)
    return w, opt


@pytest.mark.parametrize("lr", [0.0, torch.tensor(0.0)])
def test_an_idle_step_makes_the_state_and_does_not_count(lr):
    w, opt = built(lr, [0.0, 0.0])
    before = opt.last
    opt.step(closure=None)
    assert (opt.param_groups[0]["sharpmin_step"], opt.last) == (0, before)
    assert set(opt.state[w]) == {"step", "exp_avg", "exp_avg_sq"}
    assert w.tolist() == [3.0, 1.0]


@pytest.mark.parametrize("lr", [0.1, torch.tensor(0.1)])
def test_a_step_with_zero_gradients_counts(lr):
    _, opt = built(lr, [0.0, 0.0])
    opt.step()
    assert (opt.param_groups[0]["sharpmin_step"], opt.last.stepped) == (1, True)


def test_a_step_at_lr_zero_with_a_gradient_needs_its_second_pass():
    _, opt = built(0.0, [3.0, 4.0])
    with pytest.raises(sm.PhaseError, match="perturbed weights"):
        opt.step()


def test_the_word_for_a_schedule_is_no_radius():
    """A bare base that loaded it can be wrapped again, by a number or a schedule."""
    schedule = sm.rho.Cosine(0.1, steps=10)
    w = nn.Parameter(torch.ones(2))
    saved = sm.SAM(torch.optim.Adam([w]), rho=schedule).state_dict()
    assert saved["param_groups"][0]["rho"] == "schedule"
    for rho in (0.3, schedule):
        base = torch.optim.Adam([w])
        base.load_state_dict(saved)
        assert sm.SAM(base, rho=rho).param_groups[0]["rho"] == rho
        opt = sm.SAM(torch.optim.Adam([w]), rho=rho)
        opt.load_state_dict(saved)
        assert opt.param_groups[0]["rho"] == rho
