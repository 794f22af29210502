"""Scope "microbatch" between its blocks: dropout, buffers, exceptions, clearing, and blocks that are missing."""

import pytest
import torch
from torch import nn

import sharpmin as sm

RHO = 0.1


def quarter():
    """A9: x, and the losses of its two micro-batches; the descent gradients are -0.9 and 1.8, the clean ones -0.75 and 1.75."""
    x = nn.Parameter(torch.tensor(0.5, dtype=torch.float64))
    return x, [lambda: 0.75 * (x - 1) ** 2, lambda: 0.25 * (x + 3) ** 2]


def make(x, **options):
    return sm.SAM(torch.optim.SGD([x], lr=0.1, momentum=0.5), RHO, scope="microbatch", **options)


def both(opt, f):
    with opt.clean():
        f().backward()
    with opt.perturbed():
        f().backward()


def whole(opt, losses):
    opt.zero_grad()
    for f in losses:
        both(opt, f)
    opt.step()


def test_buffers_move_once_a_micro_batch(bits):
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1)).double()
    plain = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1)).double()
    plain.load_state_dict(net.state_dict())
    opt = sm.SAM(torch.optim.SGD(net.parameters(), lr=0.0), RHO, model=net, scope="microbatch")
    for k in range(3):
        x = torch.randn(5, 2).double() + k
        both(opt, lambda x=x: net(x).square().mean())
        plain(x)
    opt.step()
    assert bits(dict(net.named_buffers())) == bits(dict(plain.named_buffers()))
    assert net[1].num_batches_tracked == 3


def test_both_passes_of_a_micro_batch_see_the_same_mask():
    w, drop, masks = nn.Parameter(torch.ones(64)), nn.Dropout(0.5), []
    opt = make(w)

    def f():
        masks.append(drop(torch.ones(64)))
        return (w * masks[-1]).square().sum()

    for _ in range(3):
        both(opt, f)
    opt.step()
    after = torch.get_rng_state()
    for k in range(0, 6, 2):
        assert torch.equal(masks[k], masks[k + 1])
    assert not torch.equal(masks[0], masks[2])
    assert not torch.equal(masks[2], masks[4])
    torch.manual_seed(0)
    assert all(torch.equal(drop(torch.ones(64)), masks[k]) for k in (0, 2, 4))
    assert torch.equal(torch.get_rng_state(), after)


@pytest.mark.parametrize("descent", [sm.Perturbed(), sm.Mix(1.0)], ids=str)
@pytest.mark.parametrize("late", [False, True])
def test_an_exception_in_a_first_pass_keeps_what_has_accumulated(*, path, descent, late):
    x, losses = quarter()
    opt = make(x, descent=descent)
    both(opt, losses[0])
    with pytest.raises(MemoryError), opt.clean():  # noqa: PT012
        if late:
            losses[1]().backward()
        raise MemoryError
    assert x.item() == 0.5
    assert x.grad.item() == pytest.approx(-0.9, abs=1e-12)
    both(opt, losses[1])  # again
    assert x.grad.item() == pytest.approx(0.9, abs=1e-12)
    opt.step()
    assert x.item() == pytest.approx(0.41, abs=1e-12)


@pytest.mark.parametrize("descent", [sm.Perturbed(), sm.Mix(1.0)], ids=str)
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("number", [0, 1])
def test_an_exception_in_a_second_pass_drops_the_step(*, path, bits, descent, late, number):
    x, losses = quarter()
    opt = make(x, descent=descent)
    state = bits(opt.state_dict())
    for f in losses[:number]:
        both(opt, f)
    with opt.clean():
        losses[number]().backward()
    with pytest.raises(MemoryError), opt.perturbed():  # noqa: PT012
        if late:
            losses[number]().backward()
        raise MemoryError
    assert x.item() == 0.5
    assert x.grad is None
    assert bits(opt.state_dict()) == state
    for f in losses:
        both(opt, f)
    opt.step()
    assert x.item() == pytest.approx(0.41, abs=1e-12)


def test_an_exception_before_anything_moved_keeps_the_first_gradients():
    x, losses = quarter()
    opt = make(x)
    both(opt, losses[0])
    with opt.clean():
        losses[1]().backward()
    opt.param_groups[0]["rho"] = -1.0
    with pytest.raises(ValueError, match="rho"), opt.perturbed():
        pass
    opt.param_groups[0]["rho"] = RHO
    with opt.perturbed():
        losses[1]().backward()
    opt.step()
    assert x.item() == pytest.approx(0.41, abs=1e-12)


def needs_recipe(error):
    text = str(error.value)
    return "with opt.clean():" in text and "with opt.perturbed():" in text and text.index("clean()") < text.index("opt.step()")


@pytest.mark.parametrize("before", [0, 1])
def test_a_second_pass_without_a_first_block(before):
    x, losses = quarter()
    opt = make(x)
    for f in losses[:before]:
        both(opt, f)
    losses[before]().backward()
    with pytest.raises(sm.PhaseError) as error, opt.perturbed():
        pass
    assert needs_recipe(error)
    assert x.item() == 0.5


def failed_closure(opt, f):
    def closure():
        raise MemoryError

    with pytest.raises(MemoryError):
        opt.step(closure)


def failed_clean(opt, f):
    with pytest.raises(MemoryError), opt.clean():
        raise MemoryError


def failed_perturbed(opt, f):
    with opt.clean():
        f().backward()
    with pytest.raises(MemoryError), opt.perturbed():
        raise MemoryError


def given_up(opt, f):
    with opt.clean():
        f().backward()
    opt.zero_grad()


@pytest.mark.parametrize("history", [whole, failed_closure, failed_clean, failed_perturbed, given_up], ids=lambda f: f.__name__)
def test_it_is_missed_whatever_came_before(history):
    x, losses = quarter()
    opt = make(x)
    history(opt, losses if history is whole else losses[0])
    opt.zero_grad()
    losses[0]().backward()
    with pytest.raises(sm.PhaseError) as error, opt.perturbed():
        pass
    assert needs_recipe(error)


@pytest.mark.parametrize("number", [0, 1])
def test_a_step_without_the_last_second_pass(number):
    """Else the gradient of the first pass would be taken for that of the second, and what had accumulated would be lost."""
    x, losses = quarter()
    opt = make(x)
    for f in losses[:number]:
        both(opt, f)
    with opt.clean():
        losses[number]().backward()
    with pytest.raises(sm.PhaseError):
        opt.step()
    assert x.item() == 0.5
    with opt.perturbed():
        losses[number]().backward()
    for f in losses[number + 1 :]:
        both(opt, f)
    opt.step()
    assert x.item() == pytest.approx(0.41, abs=1e-12)


def test_two_first_passes_in_a_row():
    """Else a clean gradient would be accumulated as if it were a descent gradient, and what had accumulated would be lost."""
    x, losses = quarter()
    opt = make(x)
    both(opt, losses[0])
    with opt.clean():
        losses[1]().backward()
    with pytest.raises(sm.PhaseError), opt.clean():
        losses[1]().backward()
    assert x.item() == 0.5


def test_a_first_block_without_a_backward_may_be_followed_by_another():
    x, losses = quarter()
    opt = make(x)
    with opt.clean():
        pass
    for f in losses:
        both(opt, f)
    opt.step()
    assert x.item() == pytest.approx(0.41, abs=1e-12)


@pytest.mark.parametrize("set_to_none", [True, False])
@pytest.mark.parametrize("where", ["outside", "inside"])
def test_clearing_before_a_micro_batch_gives_up_what_has_accumulated(where, set_to_none):
    x, losses = quarter()
    opt = make(x)
    both(opt, lambda: 7 * losses[0]())
    if where == "outside":
        opt.zero_grad(set_to_none)
    with opt.clean():
        if where == "inside":
            opt.zero_grad(set_to_none)
        losses[0]().backward()
    with opt.perturbed():
        losses[0]().backward()
    both(opt, losses[1])
    opt.step()
    assert x.item() == pytest.approx(0.41, abs=1e-12)


def test_what_was_given_up_does_not_come_back_with_an_exception():
    x, losses = quarter()
    opt = make(x)
    both(opt, lambda: 7 * losses[0]())
    with pytest.raises(MemoryError), opt.clean():  # noqa: PT012
        opt.zero_grad()
        raise MemoryError
    assert x.grad is None
    for f in losses:
        both(opt, f)
    opt.step()
    assert x.item() == pytest.approx(0.41, abs=1e-12)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("set_to_none", [True, False])
@pytest.mark.parametrize("options", [{}, {"descent": sm.Mix(1.0)}, {"telemetry": True}], ids=str)
def test_clearing_inside_a_second_pass_is_about_that_pass(set_to_none, options, late):
    """As scripts do before each backward; the same whatever else is kept: telemetry must not change the step."""
    x, losses = quarter()
    opt = make(x, **options)
    for f in losses:
        with opt.clean():
            f().backward()
        with opt.perturbed():
            if late:
                f().backward()
            opt.zero_grad(set_to_none)
            f().backward()
    opt.step()
    assert x.item() == pytest.approx(0.41, abs=1e-12)


def test_a_closure_is_one_micro_batch(path):
    x, losses = quarter()
    opt = make(x)

    def closure():
        opt.zero_grad()
        loss = losses[0]() + losses[1]()
        loss.backward()
        return loss

    assert opt.step(closure).item() == pytest.approx(0.75 * 0.25 + 0.25 * 12.25)
    assert x.item() == pytest.approx(0.38, abs=1e-12)
