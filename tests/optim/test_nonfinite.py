"""A gradient that is not finite, in either pass: weights, state and count stay; the next step works."""

import math

import pytest
import torch

import sharpmin as sm
from sharpmin.optim import _stepping
from sharpmin.optim._numeric import sums

BAD = [math.inf, -math.inf, math.nan]
BASES = {
    "sgd": lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9),
    "adam": lambda ps: torch.optim.Adam(ps, lr=0.1),
}


def spoiling(f, at, value):
    """`f`, whose gradient is spoiled on the call number `at`."""

    def backward():
        loss = f()
        if len(f.visited) - 1 == at:
            f.w.grad[1] = value
        return loss

    return backward


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("rho", [0.5, sm.rho.Unnormalized(0.5), sm.rho.Capped(0.5, c=0.2)], ids=str)
@pytest.mark.parametrize("telemetry", [False, True])
def test_the_step_is_skipped(*, quadratic, door, bits, base, value, at, rho, telemetry):
    f = quadratic()
    opt = sm.SAM(BASES[base]([f.w]), rho=rho, telemetry=telemetry)
    door(opt, f)
    was, state, calls = bits(f.w), bits(opt.state_dict()), len(f.visited)
    door(opt, spoiling(f, calls + at, value))
    assert (bits(f.w), bits(opt.state_dict())) == (was, state)
    assert opt.last.stepped is False
    assert all(torch.isfinite(w).all() for w in f.visited)
    again, other = quadratic(), quadratic()
    for g, skips in ((again, True), (other, False)):
        one = sm.SAM(BASES[base]([g.w]), rho=rho)
        door(one, g)
        if skips:
            door(one, spoiling(g, len(g.visited) + at, value))
        door(one, g)
        assert one.last.stepped
    assert bits(again.w) == bits(other.w)


@pytest.mark.parametrize("written", [False, True])
def test_a_comparison_has_looked_already(quadratic, monkeypatch, bits, written):
    """The products of telemetry are finite only if the gradients are; what was written since is looked at again."""
    f = quadratic()
    opt = sm.SAM(torch.optim.SGD([f.w], lr=0.1), rho=0.5, telemetry=True)
    real, looked, was = sums.all_finite, [], bits(f.w)
    monkeypatch.setattr(_stepping, "all_finite", lambda grads, *rest: looked.append(len(grads)) or real(grads, *rest))
    f()
    with opt.perturbed():
        opt.zero_grad()
        f()
    if written:
        f.w.grad[1] = math.nan
    opt.step()
    assert opt.last.stepped is not written
    assert (bits(f.w) == was) is written
    assert sum(looked) == written  # the gradients of groups at rest are asked for too, and there are none


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("at", [0, 1])
def test_a_group_at_rest_counts_too(door, bits, value, at):
    """The spoiled gradient is in a group with rho 0, which does not enter the norm."""
    a, b = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    opt = sm.SAM(torch.optim.SGD([{"params": [a]}, {"params": [b], "rho": 0.0}], lr=0.1), rho=0.5)
    was, calls = bits([a, b]), []

    def backward():
        (a.square().sum() + b.square().sum()).backward()
        if len(calls) == at:
            b.grad[0] = value
        calls.append(1)

    door(opt, backward)
    assert bits([a, b]) == was
    assert opt.last.stepped is False


@pytest.mark.parametrize("value", BAD)
def test_rho_zero_skips_too(quadratic, door, bits, value):
    f = quadratic()
    opt = sm.SAM(torch.optim.SGD([f.w], lr=0.1), rho=0.0)
    was = bits(f.w)
    door(opt, spoiling(f, 0, value))
    assert bits(f.w) == was
    assert (opt.last.stepped, opt.last.passes) == (False, 1)


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("rho", [0.5, sm.rho.Unnormalized(0.5), sm.rho.Capped(0.5, c=0.2)], ids=str)
def test_accelerator_with_skip_nonfinite(*, quadratic, door, accelerator, bits, value, at, rho):
    f = quadratic()
    opt = sm.SAM(torch.optim.Adam([f.w], lr=0.1), rho=rho, skip_nonfinite=True)
    door(opt, f)
    was, state = bits(f.w), bits(opt.state_dict())
    door(opt, spoiling(f, len(f.visited) + at, value))
    assert (bits(f.w), bits(opt.state_dict())) == (was, state)
    assert opt.last.stepped is False


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("rho", [0.5, sm.rho.Unnormalized(0.5), sm.rho.Capped(0.5, c=0.2)], ids=str)
def test_accelerator_by_default_gives_e_zero_and_the_base_decides(*, quadratic, door, accelerator, bits, value, rho):
    """The second pass then runs at w: the step taken is that of the base alone."""
    f, g = quadratic(), quadratic()
    opt = sm.SAM(torch.optim.SGD([f.w], lr=0.1), rho=rho)
    door(opt, spoiling(f, 0, value))
    g()
    torch.optim.SGD([g.w], lr=0.1).step()
    assert torch.equal(f.visited[1], f.visited[0])
    assert bits(f.w) == bits(g.w)
    assert opt.last.radius == 0.0
    assert opt.last.stepped


def test_accelerator_with_a_spoiled_second_gradient_lets_the_base_decide(quadratic, door, accelerator):
    f = quadratic()
    opt = sm.SAM(torch.optim.SGD([f.w], lr=0.1), rho=0.5)
    door(opt, spoiling(f, 1, math.nan))
    assert opt.last.stepped
    assert math.isnan(f.w[1].item())


def test_ready_after_a_step_that_never_came(quadratic, block_door):
    """A loss scaler may leave `step` out; the next cycle starts afresh."""
    f = quadratic()
    opt = sm.SAM(torch.optim.SGD([f.w], lr=0.1), rho=0.5)
    f()
    with opt.perturbed():
        f()
    assert opt.last.stepped is False
    block_door(opt, f)
    assert f.w.tolist() == pytest.approx([2.67, 0.44], abs=1e-9)


@pytest.mark.parametrize("value", BAD)
def test_a_spoiled_first_gradient_counts_whatever_becomes_of_it(quadratic, bits, value):
    """Cleaning up after the block does not make the step one of SAM."""
    f = quadratic()
    opt = sm.SAM(torch.optim.SGD([f.w], lr=0.1), rho=sm.rho.Unnormalized(0.5))
    was = bits(f.w)
    spoiling(f, 0, value)()
    with opt.perturbed():
        f()
    torch.nan_to_num_(f.w.grad, nan=1.0, posinf=1.0, neginf=1.0)
    opt.step()
    assert bits(f.w) == was
    assert (opt.last.stepped, opt.last.rho, opt.last.radius) == (False, 0.0, 0.0)
