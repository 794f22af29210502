"""A18, A19, A29 to A31: nobody is left at w + e, and a step that fails leaves the next one able to work."""

import gc
import os
import signal
import threading

import pytest
import torch
from torch import nn
from torch.amp import GradScaler

import sharpmin as sm
from sharpmin.optim._effects.guard import _holders, mark_perturbed


class Out(torch.optim.SGD):
    """Fails on its first step, as if out of memory."""

    def __init__(self, ps):
        super().__init__(ps, lr=0.1, momentum=0.9)
        self.failures = [torch.cuda.OutOfMemoryError("out of memory")]

    def step(self, closure=None):
        if self.failures:
            raise self.failures.pop()
        return super().step()


@pytest.mark.parametrize("error", [torch.cuda.OutOfMemoryError("out of memory"), KeyboardInterrupt()], ids=["oom", "interrupt"])
@pytest.mark.parametrize("next_one", [False, True])
def test_an_exception_in_the_step_of_the_base(*, quadratic, door, bits, error, next_one):
    f, g = quadratic(), quadratic()
    base = Out([f.w])
    base.failures = [error]
    opt, other = sm.SAM(base, rho=0.5), sm.SAM(torch.optim.SGD([g.w], lr=0.1, momentum=0.9), rho=0.5)
    with pytest.raises(type(error)):
        door(opt, f)
    assert f.w.tolist() == [3.0, 1.0]
    assert f.w.grad is None
    assert not opt.last.stepped
    assert opt._passes.state.phase.value == "clean"
    if next_one:
        for _ in range(3):
            door(opt, f)
            door(other, g)
        assert bits(opt.state_dict()) == bits(other.state_dict())
        assert f.w.tolist() == g.w.tolist()


@pytest.mark.parametrize("unscaled", [False, True])
def test_an_exception_in_the_second_pass_under_a_scaler(quadratic, unscaled):
    """A31: the scaler's record of the first pass must not stay."""
    f, scaler = quadratic(), GradScaler("cpu", init_scale=1024.0)
    opt = sm.SAM(torch.optim.SGD([f.w], lr=0.1), rho=0.5)

    def step(fails):
        opt.zero_grad()
        scaler.scale(0.5 * (f.w[0] ** 2 + 4 * f.w[1] ** 2)).backward()
        if unscaled:
            scaler.unscale_(opt)
        with opt.perturbed(scaler):
            if fails:
                raise ValueError("boom")
            scaler.scale(0.5 * (f.w[0] ** 2 + 4 * f.w[1] ** 2)).backward()
        scaler.step(opt)
        scaler.update()

    for _ in range(2):
        with pytest.raises(ValueError, match="boom"):
            step(fails=True)
    step(fails=False)
    assert f.w.tolist() == pytest.approx([2.67, 0.44], abs=1e-12)


@pytest.mark.parametrize("with_model", [False, True])
@pytest.mark.parametrize("kept", [False, True])
def test_a_new_sam_brings_back_what_an_old_one_has_left(with_model, kept, bits):
    """A cell that was interrupted and is run again: the old SAM may be gone by then, or not yet."""
    model = nn.Linear(3, 2).double()
    was, options = bits(model.state_dict()), {"model": model} if with_model else {}
    opt = sm.SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.5, **options)
    model(torch.ones(1, 3).double()).sum().backward()
    opt.first_step()
    old = opt if kept else None
    opt = sm.SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.5, **options)
    assert bits(model.state_dict()) == was
    assert _holders == {}
    opt.zero_grad()
    model(torch.ones(1, 3).double()).sum().backward()
    with opt.perturbed():
        model(torch.ones(1, 3).double()).sum().backward()
    opt.step()
    assert opt.last.stepped
    if old is not None:
        with pytest.raises(sm.PhaseError, match="restore"):
            old.restore()


def test_one_that_is_lost_is_brought_back_at_once(quadratic):
    f = quadratic()
    opt = sm.SAM(torch.optim.SGD([f.w], lr=0.1), rho=0.5)
    f()
    opt.perturb()
    assert f.w.tolist() != [3.0, 1.0]
    del opt
    gc.collect()
    assert f.w.tolist() == [3.0, 1.0]
    assert f.w.grad is None
    assert _holders == {}


def test_a_block_that_was_never_entered_gives_the_step_up(quadratic):
    """An interrupt between the end of `__enter__` and the first line of the block drops the block, open."""
    f = quadratic()
    opt = sm.SAM(torch.optim.SGD([f.w], lr=0.1), rho=0.5)
    f()
    block = opt.perturbed()
    block.__enter__()
    assert f.w.tolist() != [3.0, 1.0]
    del block
    gc.collect()
    assert f.w.tolist() == [3.0, 1.0]


def test_a_block_that_was_refused_leaves_the_open_one_alone(quadratic):
    f = quadratic()
    opt = sm.SAM(torch.optim.SGD([f.w], lr=0.1), rho=0.5)
    f()
    with opt.perturbed():
        inside = f.w.tolist()
        block = opt.perturbed()
        with pytest.raises(sm.PhaseError):
            block.__enter__()
        del block
        gc.collect()
        assert f.w.tolist() == inside
        f()
    opt.step()
    assert f.w.tolist() == pytest.approx([2.67, 0.44], abs=1e-12)


def test_a_signal_handler_may_give_the_step_up(quadratic):
    """A30: it runs between two bytecodes of the thread that it interrupts, so it must not wait for that thread."""
    f = quadratic()
    opt = sm.SAM(torch.optim.SGD([f.w], lr=0.1), rho=0.5)
    before = signal.signal(signal.SIGUSR1, lambda *_: opt.abort())
    try:
        f()
        opt.perturb()
        os.kill(os.getpid(), signal.SIGUSR1)
        assert f.w.tolist() == [3.0, 1.0]
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_loading_weights_inside_the_block_is_refused(bits):
    model = nn.Linear(2, 1)
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    opt = sm.SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.5, model=model)
    model(torch.ones(1, 2)).sum().backward()
    with opt.perturbed():
        for call in (lambda: model.load_state_dict(weights), lambda: nn.Sequential(model).load_state_dict({}, strict=False)):
            with pytest.raises(sm.PhaseError, match=r"load_state_dict\(\) came while the weights are perturbed"):
                call()
        model(torch.ones(1, 2)).sum().backward()
    assert bits(model.state_dict()) == bits(weights)
    model.load_state_dict(weights)
    assert not model._state_dict_pre_hooks
    assert not model._load_state_dict_pre_hooks


def test_two_threads_train_two_models(bits):
    """Nobody holds a lock, and nobody sees the other's weights."""

    def train(seed):
        net = nn.Linear(2, 1)
        with torch.no_grad():
            for p in net.parameters():
                p.fill_(seed)
        opt = sm.SAM(torch.optim.SGD(net.parameters(), lr=0.1), rho=0.05, model=net)
        for _ in range(50):
            opt.zero_grad()
            net(torch.ones(1, 2)).square().sum().backward()
            with opt.perturbed():
                net(torch.ones(1, 2)).square().sum().backward()
            opt.step()
        return bits(net.state_dict())

    alone, together = [train(1), train(2)], [None, None]
    threads = [threading.Thread(target=lambda i=i: together.__setitem__(i, train(i + 1))) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone
    assert _holders == {}


def test_one_whose_rescue_was_interrupted_is_let_go_at_the_next_step(quadratic):
    """Its weights are nobody's any more; the table would keep its copies of them for ever."""
    f = quadratic()
    lost, opt = torch.optim.SGD([nn.Parameter(torch.zeros(2))], lr=0.1), sm.SAM(torch.optim.SGD([f.w], lr=0.1), rho=0.5)
    mark_perturbed(sm.SAM(torch.optim.SGD([nn.Parameter(torch.zeros(2))], lr=0.1), rho=0.5)._passes.state, lost)
    del lost
    gc.collect()
    assert [holder() for _, holder in _holders.values()] == [None]
    f()
    opt.perturb()
    assert [holder() for _, holder in _holders.values()] == [opt.base]
    opt.abort()
    assert _holders == {}
