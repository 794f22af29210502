"""How many steps climbed: `opt.last.climbed`, kept in checkpoints; and a run whose SAM never fired is told."""

import warnings

import pytest
import torch
from torch import nn

import sharpmin as sm

STEPS = 12
RADII = {
    "constant": 0.1,
    "zero": 0.0,
    "every third": sm.rho.Every(0.1, k=3),
    "tail": sm.rho.Tail(0.1, start=8),
    "until": sm.rho.Until(0.1, stop=5),
    "after the end": sm.rho.Tail(0.1, start=40),
    "share of the run": sm.rho.Tail(0.1, start=0.75, total=STEPS),
}


def built(rho, **settings):
    w = nn.Parameter(torch.tensor([3.0, -1.0]))
    return w, sm.SAM(torch.optim.SGD([w], lr=0.01), rho=rho, **settings)


def backward(w):
    w.square().sum().backward()


def closure(opt, w):
    def both():
        opt.zero_grad()
        loss = w.square().sum()
        loss.backward()
        return loss

    opt.step(both)


def block(opt, w):
    opt.zero_grad()
    with opt.clean():
        backward(w)
    with opt.perturbed():
        backward(w)
    opt.step()


def guarded(opt, w):
    opt.zero_grad()
    backward(w)
    if opt.needs_second_pass:
        with opt.perturbed():
            backward(w)
    opt.step()


DOORS = [closure, block, guarded]


def expected(rho, lr=0.01):
    schedule = rho if isinstance(rho, sm.rho.RhoSchedule) else sm.rho.Constant(rho)
    return sum(float(schedule(sm.rho.StepInfo(step=step, lr=lr))) > 0 for step in range(STEPS))


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("name", RADII)
def test_as_many_as_have_a_radius(door, name):
    w, opt = built(RADII[name])
    for _ in range(STEPS):
        door(opt, w)
    assert (opt.last.steps, opt.last.climbed) == (STEPS, expected(RADII[name]))


def test_the_table_has_every_count():
    assert [expected(rho) for rho in RADII.values()] == [12, 0, 4, 4, 5, 0, 3]


def test_before_the_first_step():
    _, opt = built(0.1)
    assert (opt.last.steps, opt.last.climbed) == (0, 0)


def test_a_zero_gradient_climbs_nowhere():
    w, opt = built(0.1)
    with torch.no_grad():
        w.zero_()
    block(opt, w)
    assert (opt.last.steps, opt.last.climbed) == (1, 0)


def test_micro_batches_are_one_step():
    w, opt = built(0.1, scope="microbatch")
    opt.zero_grad()
    for _ in range(3):
        with opt.clean():
            backward(w)
        with opt.perturbed():
            backward(w)
    opt.step()
    assert (opt.last.steps, opt.last.climbed) == (1, 1)


@pytest.mark.filterwarnings("ignore:SAM. a (first|second) gradient")
def test_a_skipped_step_counts_as_neither():
    w, opt = built(0.1)
    closure(opt, w)
    w.grad = torch.tensor([float("nan"), 0.0])
    with opt.perturbed():
        backward(w)
    opt.step()
    assert (opt.last.stepped, opt.last.steps, opt.last.climbed) == (False, 1, 1)


def test_it_goes_on_after_a_checkpoint_and_in_a_new_group():
    w, opt = built(sm.rho.Every(0.1, k=2))
    for _ in range(5):
        block(opt, w)
    again_w, again = built(sm.rho.Every(0.1, k=2))
    again.load_state_dict(opt.state_dict())
    assert (again.last.steps, again.last.climbed) == (5, 3)
    again.add_param_group({"params": [nn.Parameter(torch.ones(1))]})
    assert again.param_groups[1]["sharpmin_climbed"] == 3
    for _ in range(2):
        again_w.grad = None
        guarded(again, again_w)
    assert (again.last.steps, again.last.climbed) == (7, 4)


def test_the_checkpoint_of_a_run_before_there_was_a_count():
    w, opt = built(0.1)
    block(opt, w)
    saved = opt.state_dict()
    for group in saved["param_groups"]:
        del group["sharpmin_climbed"]
    _, again = built(0.1)
    again.load_state_dict(saved)
    assert (again.last.steps, again.last.climbed) == (1, 0)


@pytest.mark.parametrize("bad", [float("nan"), -1, "3", 1.5, True, None])
def test_a_count_that_is_none_is_refused(bad):
    _, opt = built(0.1)
    saved = opt.state_dict()
    saved["param_groups"][0]["sharpmin_climbed"] = bad
    with pytest.raises((TypeError, ValueError), match="sharpmin_climbed"):
        opt.load_state_dict(saved)


@pytest.mark.parametrize("name", RADII)
def test_the_end_of_a_watched_run_tells_if_it_never_climbed(name):
    w, opt = built(RADII[name])
    probe = sm.watch(opt)
    for _ in range(STEPS):
        closure(opt, w)
    if name == "after the end":
        with pytest.warns(UserWarning, match=r"none of the 12 steps climbed: rho \(Tail\(.*run of SGD"):
            probe.close()
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            probe.close()
