"""Every warning points at the line of the user that caused it, however the step was made."""

import linecache
import math
from contextlib import contextmanager

import pytest
import torch
from torch import nn

import sharpmin as sm


def made(rho=0.1, dtype=torch.float32, **options):
    net = nn.Linear(2, 1).to(dtype)
    opt = sm.SAM(torch.optim.SGD(net.parameters(), lr=0.1), rho, **options)
    return opt, lambda: net(torch.ones(1, 2, dtype=dtype)).square().sum()


def by_closure(opt, loss):
    def closure():
        opt.zero_grad()
        loss().backward()
        return torch.zeros(2)  # which is no loss to record

    opt.step(closure)  # the line


def by_block(opt, loss):
    opt.zero_grad()
    loss().backward()
    with opt.perturbed():  # the line
        loss().backward()
    opt.step()  # the line


def by_two_steps(opt, loss):
    opt.zero_grad()
    loss().backward()
    opt.first_step()  # the line
    loss().backward()
    opt.second_step()  # the line


def with_a_scheduler(opt, loss):
    """Which puts a function of torch around `step`."""
    torch.optim.lr_scheduler.ExponentialLR(opt, 0.9)
    by_closure(opt, loss)


def in_a_hook(opt, loss):
    """Of another optimizer: torch calls this file, which calls the step."""
    p = nn.Parameter(torch.zeros(1))
    other = torch.optim.SGD([p])
    other.register_step_post_hook(lambda *_: by_block(opt, loss))
    p.grad = torch.zeros(1)
    other.step()


STEPS = [by_closure, by_block, by_two_steps, with_a_scheduler, in_a_hook]


@contextmanager
def warned(text):
    """One warning comes that matches `text`, and points at a line of this file that is marked as such."""
    with pytest.warns(UserWarning, match=text) as seen:
        yield
    (told,) = seen
    assert told.filename == __file__
    assert linecache.getline(told.filename, told.lineno).rstrip().endswith("# the line")


@pytest.mark.parametrize("step", STEPS)
def test_the_first_block_has_no_loss(step):
    opt, loss = made()
    sm.watch(opt, every=1, block=1)
    with warned("the first block has no loss"):
        step(opt, loss)


@pytest.mark.parametrize("step", STEPS)
def test_a_row_cannot_be_written(step):
    def full(row):
        if row["kind"] == "step":
            raise OSError(28, "No space left on device")

    opt, loss = made()
    sm.watch(opt, to=full, every=1, block=9)
    with warned("could not be written to"):
        step(opt, loss)


@pytest.mark.parametrize("step", STEPS)
def test_rounding_loses_the_perturbation(step):
    opt, loss = made(1e-6, torch.bfloat16)
    with warned("survives the rounding"):
        step(opt, loss)


@pytest.mark.parametrize("step", STEPS)
def test_a_step_is_skipped(step):
    opt, loss = made()
    with warned("holds an inf or a nan"):
        step(opt, lambda: loss() * math.nan)


def test_a_loop_of_another_sam():
    """Its probe is called by the user."""
    net = nn.Linear(2, 1)
    with warned("without optimizer="):
        probe = sm.watch(net, rho=0.1, every=1, block=1)  # the line
    for call in (probe.clean, probe.perturbed):
        net(torch.ones(1, 2)).sum().backward()
        if call == probe.clean:
            call()
    with warned("the first block has no loss"):
        probe.perturbed()  # the line


def test_a_run_that_never_climbed():
    opt, loss = made(sm.rho.Tail(0.1, start=5))
    probe = sm.watch(opt, every=1, block=9)
    by_two_steps(opt, loss)
    with warned("none of the 1 steps climbed"):
        probe.close()  # the line


def test_a_pass_in_vain():
    opt, loss = made(sm.rho.Gate(0.1, total=9))
    opt.param_groups[0]["sharpmin_rho_mean"] = 1e12  # the usual gradient was far larger
    with warned("a second pass ran at w all the same"):
        by_block(opt, loss)


def test_steps_that_only_the_base_takes():
    opt, loss = made()
    with warned("second passes came without"):
        for _ in range(4):
            loss().backward()
            with opt.perturbed():  # the line
                loss().backward()
            opt.base.step()


def test_a_checkpoint_of_another_scope():
    with warned("the checkpoint was made with scope"):
        made(scope="microbatch")[0].load_state_dict(made()[0].state_dict())  # the line
