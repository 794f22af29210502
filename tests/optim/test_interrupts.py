"""Whatever interrupts a step, and wherever, w comes back bit for bit, and nobody else can step on w + e meanwhile."""

import gc
import sys
import threading

import pytest
import torch
from torch import nn

import sharpmin as sm
from sharpmin.optim import _first_pass, _perturbation, _state
from sharpmin.optim._effects import guard


def model(n=4):
    return nn.ParameterList([nn.Parameter(torch.full((3,), float(i + 1))) for i in range(n)])


def loss(ps):
    return sum((p**2).sum() for p in ps)


class Interrupt(BaseException):
    """What a signal raises, at a place that the test chooses."""


@pytest.mark.parametrize("door", ["block", "closure", "raw"])
@pytest.mark.parametrize("count", range(4))
def test_on_the_way_up(count, door, monkeypatch):
    ps = model()
    opt, was = sm.SAM(torch.optim.SGD(ps, lr=0.1), rho=0.5), [p.detach().clone() for p in ps]

    def part(weights, vectors, *others, real=_perturbation.add_all):
        real(weights[:count], vectors[:count], *others)
        raise Interrupt

    monkeypatch.setattr(_perturbation, "add_all", part)

    def closure():
        opt.zero_grad()
        value = loss(ps)
        value.backward()
        return value

    def enter():
        closure()
        if door == "raw":
            opt.perturb()
        with opt.perturbed():
            closure()

    with pytest.raises(Interrupt):
        opt.step(closure) if door == "closure" else enter()
    assert all(torch.equal(p, w) for p, w in zip(ps, was, strict=True))
    assert guard._holders == {}
    monkeypatch.undo()
    opt.step(closure)
    assert opt.last.stepped


@pytest.mark.parametrize("count", range(2))
def test_on_the_way_back(count, monkeypatch):
    """An interrupt inside the restore; the block tries again, and once more if that is interrupted too."""
    ps = model()
    opt, was = sm.SAM(torch.optim.SGD(ps, lr=0.1), rho=0.5), [p.detach().clone() for p in ps]
    loss(ps).backward()
    real, failures = _state.Trip.come_back, [Interrupt] * (count + 1)

    def come_back(trip):
        if failures:
            weights, before = trip.held
            with torch.no_grad():
                weights[0].copy_(before[0])  # one weight is back already
            raise failures.pop()
        real(trip)

    monkeypatch.setattr(_state.Trip, "come_back", come_back)
    with pytest.raises(Interrupt), opt.perturbed():
        pass
    assert all(torch.equal(p, w) for p, w in zip(ps, was, strict=True))


@pytest.mark.parametrize("scope", ["global", "microbatch"])
def test_between_the_second_pass_and_the_step_of_the_base_by_closure(monkeypatch, scope):
    """The gradients are ready by then; the next closure is another step, and not refused."""
    ps, qs = model(), model()
    opt, other = (sm.SAM(torch.optim.SGD(own, lr=0.1), rho=0.5, scope=scope) for own in (ps, qs))

    def closure(opt, own):
        opt.zero_grad()
        value = loss(own)
        value.backward()
        return value

    def interrupt(passes):
        raise Interrupt

    monkeypatch.setattr(_first_pass, "descend", interrupt)
    with pytest.raises(Interrupt):
        opt.step(lambda: closure(opt, ps))
    monkeypatch.undo()
    assert all(torch.equal(p, w) for p, w in zip(ps, model(), strict=True))
    for _ in range(2):
        opt.step(lambda: closure(opt, ps))
        other.step(lambda: closure(other, qs))
        assert opt.last.stepped
    assert all(torch.equal(p, q) for p, q in zip(ps, qs, strict=True))


def test_a_closure_after_a_block_is_refused_and_the_block_still_counts():
    ps = model()
    opt = sm.SAM(torch.optim.SGD(ps, lr=0.1), rho=0.5)
    loss(ps).backward()
    with opt.perturbed():
        loss(ps).backward()
    with pytest.raises(sm.PhaseError, match="second pass is done"):
        opt.step(lambda: loss(ps))
    opt.step()
    assert opt.last.stepped


def test_weights_that_could_not_come_back_are_guarded_and_can_be_restored():
    ps = model()
    opt, was = sm.SAM(torch.optim.SGD(ps, lr=0.1), rho=0.5), [p.detach().clone() for p in ps]
    loss(ps).backward()
    opt.perturb()
    with pytest.raises(sm.PhaseError, match="state_dict"):
        opt.state_dict()
    opt.restore()
    assert all(torch.equal(p, w) for p, w in zip(ps, was, strict=True))
    assert guard._holders == {}


@pytest.mark.parametrize("share", ["base", "model"])
def test_two_sams_cannot_perturb_the_same_weights(share):
    ps = model()
    one = sm.SAM(torch.optim.SGD(ps, lr=0.1), rho=0.5)
    other = sm.SAM(one.base if share == "base" else torch.optim.Adam(ps), rho=0.5)
    loss(ps).backward()
    with one.perturbed():
        moved = [p.detach().clone() for p in ps]
        loss(ps).backward()
        with pytest.raises(sm.PhaseError, match=r"perturb\(\) came while a SAM holds some of these weights perturbed"):
            other.perturb()
        assert all(torch.equal(p, w) for p, w in zip(ps, moved, strict=True))
    one.step()


def test_two_sams_with_weights_of_their_own_may_nest():
    a, b = model(), model()
    one, other = sm.SAM(torch.optim.SGD(a, lr=0.1), rho=0.5), sm.SAM(torch.optim.SGD(b, lr=0.1), rho=0.5)
    (loss(a) + loss(b)).backward()
    with one.perturbed(), other.perturbed():
        (loss(a) + loss(b)).backward()
    one.step()
    other.step()
    assert one.last.stepped
    assert all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


@pytest.mark.parametrize("kind", [torch.optim.SGD, sm.SAM])
def test_threads_that_train_models_of_their_own(kind):
    """Every thread's result equals the one of a run alone."""

    def train(steps=40):
        ps = model(2)
        opt = torch.optim.SGD(ps, lr=0.01)
        opt = sm.SAM(opt, rho=0.1) if kind is sm.SAM else opt

        def closure():
            opt.zero_grad()
            value = loss(ps)
            value.backward()
            return value

        for _ in range(steps):
            opt.step(closure)
        return torch.stack([p.detach() for p in ps])

    alone, results, interval = train(), [], sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=lambda: results.append(train())) for _ in range(5)]
        sam_too = threading.Thread(target=lambda: [sm.SAM(torch.optim.SGD(model(), lr=0.1)) for _ in range(20)])
        for thread in [*threads, sam_too]:
            thread.start()
        for thread in [*threads, sam_too]:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert len(results) == 5
    assert all(torch.equal(result, alone) for result in results)


@pytest.mark.parametrize("door", ["block", "closure"])
def test_one_autocast_around_both_passes_sees_the_perturbed_weights(door):
    """autocast keeps low-precision copies of the weights, which must not survive the perturbation."""
    net, x = nn.Linear(8, 1, bias=False), torch.ones(2, 8)
    opt = sm.SAM(torch.optim.SGD(net.parameters(), lr=0.0), rho=5.0)
    losses = []

    def closure():
        opt.zero_grad()
        value = (net(x).float() ** 2).mean()
        losses.append(value.item())
        value.backward()
        return value

    with torch.autocast("cpu", dtype=torch.bfloat16):
        if door == "closure":
            opt.step(closure)
        else:
            closure()
            with opt.perturbed():
                closure()
            opt.step()
        closure()
    clean, perturbed, after = losses
    size = net.weight.detach().sum().abs().item() + 5.0 * 8**0.5  # the gradient is along ones: |w x| grows by rho ||x||
    assert perturbed == pytest.approx(size**2, rel=0.02)
    assert after == clean


def test_an_optimizer_that_nobody_has_any_more_holds_nothing():
    ps = model()
    opt = sm.SAM(torch.optim.SGD(ps, lr=0.1), rho=0.5)
    loss(ps).backward()
    opt.perturb()
    del opt
    gc.collect()
    torch.optim.SGD(ps, lr=0.1).step()
    assert guard._holders == {}
