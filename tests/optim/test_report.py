"""`opt.last`: what the step did, in numbers."""

import dataclasses

import pytest
import torch

import sharpmin as sm


def make(f, rho=0.5):
    return sm.SAM(torch.optim.SGD([f.w], lr=0.1), rho=rho)


def test_before_the_first_step(quadratic):
    assert make(quadratic()).last == sm.StepReport()
    assert dataclasses.astuple(sm.StepReport()) == (False, 0.0, 0.0, None, 0, *[None] * 7, False, 0, 0, 0)


def test_after_a_step(quadratic, door, path):
    f = quadratic()
    opt = make(f)
    door(opt, f)
    last = opt.last
    assert (last.stepped, last.rho, last.radius, last.dual_norm, last.passes, last.gain) == (True, 0.5, 0.5, 5.0, 2, 1.0)
    losses = (6.5, pytest.approx(9.365, abs=1e-12)) if door.__name__ == "closure" else (None, None)
    assert (last.clean_loss, last.perturbed_loss) == losses


@pytest.mark.parametrize(
    ("rho", "expected"),
    [(sm.rho.Unnormalized(0.5), 2.5), (sm.rho.Capped(0.5, c=0.05), 0.25), (sm.rho.Capped(0.5, c=1.0), 0.5)],
    ids=str,
)
def test_rho_is_what_the_schedule_said_with_the_norm(quadratic, door, path, rho, expected):
    f = quadratic()
    opt = make(f, rho)
    door(opt, f)
    assert (opt.last.rho, opt.last.radius) == (pytest.approx(expected), pytest.approx(expected))


def test_a_step_of_the_base_alone(quadratic, door, path):
    f = quadratic()
    opt = make(f, 0.0)
    door(opt, f)
    loss = 6.5 if door.__name__ == "closure" else None
    passes = 1 if loss else 2  # a block that runs counts
    assert opt.last == sm.StepReport(stepped=True, passes=passes, clean_loss=loss, steps=1, total_passes=passes)


def test_the_last_step_s_numbers_do_not_linger(quadratic, door):
    f = quadratic()
    opt = make(f)
    door(opt, f)
    opt.param_groups[0]["rho"] = 0.0
    f()
    opt.step()
    assert opt.last == sm.StepReport(stepped=True, passes=1, steps=2, climbed=1, total_passes=3)


def test_within_a_step(quadratic):
    f = quadratic()
    opt = make(f)
    f()
    with opt.perturbed():
        assert (opt.last.stepped, opt.last.radius, opt.last.passes) == (False, 0.5, 1)
        f()
    assert (opt.last.stepped, opt.last.passes) == (False, 2)


def test_it_is_read_only(quadratic, door):
    f = quadratic()
    opt = make(f)
    door(opt, f)
    with pytest.raises(dataclasses.FrozenInstanceError):
        opt.last.rho = 1.0
    with pytest.raises(AttributeError):
        opt.last = sm.StepReport()


@pytest.mark.parametrize("loss", [None, 6.5, torch.tensor(6.5), torch.tensor([6.5])])
def test_whatever_the_closure_returns_is_returned(quadratic, loss):
    f = quadratic()
    opt = make(f)

    def closure():
        opt.zero_grad()
        f()
        return loss

    assert opt.step(closure) is loss
    assert opt.last.clean_loss == (None if loss is None else 6.5)


def test_it_holds_no_graph(quadratic):
    import gc
    import weakref

    f = quadratic()
    opt, graphs = make(f), []

    def closure():
        opt.zero_grad()
        loss = f()
        graphs.append(weakref.ref(loss))
        return loss

    opt.step(closure)
    gc.collect()
    assert [graph() for graph in graphs] == [None, None]
