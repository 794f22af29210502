"""A gradient may be missing in either pass: no exception, an exact return, a step only along a descent gradient."""

import pytest
import torch
from torch import nn

import sharpmin as sm


def parameters(n=2):
    return [nn.Parameter(torch.tensor([3.0 + i, 1.1], dtype=torch.float64)) for i in range(n)]


def one_step(opt, first, second):
    """One step with gradients set by hand, None where there is none; returns the weights inside the block."""
    for p, g in zip(opt.param_groups[0]["params"], first, strict=True):
        p.grad = None if g is None else torch.tensor(g, dtype=p.dtype)
    with opt.perturbed():
        inside = [p.detach().clone() for p in opt.param_groups[0]["params"]]
        for p, g in zip(opt.param_groups[0]["params"], second, strict=True):
            p.grad = None if g is None else torch.tensor(g, dtype=p.dtype)
    opt.step()
    return inside


CASES = [
    ([[3.0, 4.0], None], [[1.0, 1.0], None]),
    ([[3.0, 4.0], None], [None, [1.0, 1.0]]),
    ([[3.0, 4.0], [1.0, 2.0]], [None, [1.0, 1.0]]),
    ([[3.0, 4.0], None], [[1.0, 1.0], [1.0, 1.0]]),
]


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize(("first", "second"), CASES, ids=str)
def test_stepped_iff_the_descent_gradient_exists(path, make, first, second):
    ps = parameters()
    was = [p.detach().clone() for p in ps]
    opt = sm.SAM(make(ps, lr=0.1), rho=0.5)
    inside = one_step(opt, first, second)
    expected = parameters()
    base = make(expected, lr=0.1)
    for p, g in zip(expected, second, strict=True):
        p.grad = None if g is None else torch.tensor(g, dtype=p.dtype)
    base.step()
    for now, w, then, want, g in zip(ps, was, inside, expected, first, strict=True):
        assert torch.equal(now, want)
        assert torch.equal(then, w) == (g is None)


MISSING = "no first gradient"


def cleared(opt, loss):
    """A16: the first backward, and its gradients cleared by mistake."""
    loss().backward()
    opt.zero_grad()


def never(opt, loss):
    """No first backward at all."""


def others(opt, loss):
    """The backward of another model."""
    (nn.Parameter(torch.ones(1)) ** 2).sum().backward()


def by_block(opt, loss):
    with opt.perturbed():
        loss().backward()
    opt.step()


def by_phases(opt, loss):
    opt.perturb()
    loss().backward()
    opt.restore()
    opt.step()


def by_two_steps(opt, loss):
    opt.first_step(zero_grad=True)
    loss().backward()
    opt.second_step(zero_grad=True)


@pytest.mark.parametrize("door", [by_block, by_phases, by_two_steps, lambda opt, loss: opt.step()])
@pytest.mark.parametrize("mistake", [cleared, never, others])
def test_no_first_gradient_is_an_error_and_nothing_is_lost(path, mistake, door, bits):
    ps = parameters()
    was, opt = bits(ps), sm.SAM(torch.optim.SGD(ps, lr=0.1, weight_decay=0.1), rho=0.5)

    def loss():
        return sum((p**2).sum() for p in ps)

    mistake(opt, loss)
    with pytest.raises(sm.PhaseError, match=rf"(?s){MISSING}.*cleared.*opt\.zero_grad\(\)\n.*backward"):
        door(opt, loss)
    assert bits(ps) == was
    assert not opt.last.stepped
    assert opt.param_groups[0]["sharpmin_step"] == 0
    loss().backward()
    by_block(opt, loss)
    assert opt.last.stepped
    assert bits(ps) != was


@pytest.mark.parametrize("backward", [False, "then cleared"])
def test_a_closure_that_leaves_no_gradient(path, backward, bits):
    ps = parameters()
    was, opt = bits(ps), sm.SAM(torch.optim.SGD(ps, lr=0.1), rho=0.5)

    def closure():
        loss = sum((p**2).sum() for p in ps)
        if backward:
            loss.backward()
            opt.zero_grad()
        return loss

    for _ in range(2):
        with pytest.raises(sm.PhaseError, match=r"(?s)returned a loss and left no gradient.*loss\.backward\(\)"):
            opt.step(closure)
        assert bits(ps) == was
        assert not opt.last.stepped


def test_a_closure_that_meets_the_gradients_of_the_last_step_and_makes_none():
    """They are there, and stale."""
    ps = parameters()
    opt = sm.SAM(torch.optim.SGD(ps, lr=0.1), rho=0.5)

    def loss():
        return sum((p**2).sum() for p in ps)

    loss().backward()
    by_block(opt, loss)
    with pytest.raises(sm.PhaseError, match="left no gradient"):
        opt.step(loss)


@pytest.mark.parametrize("rho", [0.5, 0.0])
def test_a_first_parameter_that_was_cleared_in_place_and_left_out(path, rho, bits):
    """Its gradient was written to once, as if the closure had added to it; it is zero, so nothing was added."""
    (a, b), (c, d) = parameters(), parameters()
    opt = sm.SAM(torch.optim.SGD([a, b], lr=0.1), rho=rho)
    other = sm.SAM(torch.optim.SGD([c, d], lr=0.1), rho=rho)

    def step(opt, ps, used, *, clear_by_opt):
        def closure():
            if clear_by_opt:
                opt.zero_grad(set_to_none=False)
            else:  # as model.zero_grad(set_to_none=False) does
                for p in ps:
                    if p.grad is not None:
                        p.grad.zero_()
            loss = sum((p**2).sum() for p in used)
            loss.backward()
            return loss

        opt.step(closure)
        assert opt.last.stepped

    for used in ([0, 1], [1], [0, 1]):
        step(opt, [a, b], [(a, b)[i] for i in used], clear_by_opt=False)
        step(other, [c, d], [(c, d)[i] for i in used], clear_by_opt=True)
    assert bits([a, b]) == bits([c, d])


def test_a_closure_that_clears_in_place_and_makes_no_gradient(path, bits):
    ps = parameters()
    opt = sm.SAM(torch.optim.SGD(ps, lr=0.1), rho=0.5)
    sum((p**2).sum() for p in ps).backward()
    was = bits(ps)

    def closure():
        for p in ps:
            p.grad.zero_()
        return sum((p**2).sum() for p in ps)

    with pytest.raises(sm.PhaseError, match="left no gradient"):
        opt.step(closure)
    assert bits(ps) == was


def test_the_random_numbers_of_a_closure_that_was_refused_are_forgotten():
    """Dropout draws the same mask in both passes of the next step."""
    dropout, net, masks = nn.Dropout(0.5), nn.Linear(4, 64), []
    dropout.register_forward_hook(lambda module, x, out: masks.append(out == 0))
    opt = sm.SAM(torch.optim.SGD(net.parameters(), lr=0.1), rho=0.5)

    def closure(backward):
        opt.zero_grad()
        value = dropout(net(torch.ones(1, 4))).mean()
        if backward:
            value.backward()
        return value

    with pytest.raises(sm.PhaseError, match="left no gradient"):
        opt.step(lambda: closure(backward=False))
    masks.clear()
    opt.step(lambda: closure(backward=True))
    assert torch.equal(*masks)


def test_a_closure_may_leave_a_step_out(path, bits):
    """By returning None, as Lightning does for a skipped batch."""
    ps = parameters()
    was, opt = bits(ps), sm.SAM(torch.optim.SGD(ps, lr=0.1, weight_decay=0.1), rho=0.5)
    opt.step(lambda: None)
    assert bits(ps) == was
    assert not opt.last.stepped
    assert opt.param_groups[0]["sharpmin_step"] == 0


def test_frozen_parameters_are_the_cause():
    ps = [p.requires_grad_(False) for p in parameters()]
    opt = sm.SAM(torch.optim.SGD(ps, lr=0.1), rho=0.5)
    with pytest.raises(sm.PhaseError, match=r"requires_grad=True.*unfreeze"):
        opt.perturb()


@pytest.mark.parametrize("zero_grad", [False, True])
def test_a_second_pass_that_leaves_no_gradient(path, zero_grad, bits):
    ps = parameters()
    was, opt = bits(ps), sm.SAM(torch.optim.SGD(ps, lr=0.1), rho=0.5)
    sum((p**2).sum() for p in ps).backward()
    with opt.perturbed():
        if zero_grad:
            sum((p**2).sum() for p in ps).backward()
            opt.zero_grad()
    assert bits(ps) == was
    with pytest.raises(sm.PhaseError, match=r"(?s)second pass has left no gradient.*inside the block"):
        opt.step()
    assert not opt.last.stepped


def test_rho_zero_is_the_base_also_without_gradients(bits):
    """Which does nothing then."""
    ps = parameters()
    was, opt = bits(ps), sm.SAM(torch.optim.SGD(ps, lr=0.1, weight_decay=0.1), rho=0.0)
    opt.step()
    opt.step(lambda: sum((p**2).sum() for p in ps))
    assert bits(ps) == was


@pytest.mark.parametrize("zeros", [[0.0, 0.0], [-0.0, 0.0]])
def test_zero_gradients_need_no_second_pass(path, zeros):
    (p,) = ps = parameters(1)
    opt = sm.SAM(torch.optim.SGD(ps, lr=0.1, weight_decay=0.5), rho=0.5)
    p.grad = torch.tensor(zeros, dtype=p.dtype)
    opt.step()
    assert p.tolist() == pytest.approx([2.85, 1.045], abs=1e-12)


def test_a_closure_with_zero_gradients_runs_once():
    (p,) = ps = parameters(1)
    opt, calls = sm.SAM(torch.optim.SGD(ps, lr=0.1), rho=0.5), []

    def closure():
        calls.append(1)
        p.grad = torch.zeros_like(p)
        return torch.tensor(2.0)

    assert opt.step(closure) == 2.0
    assert len(calls) == opt.last.passes == 1


def test_no_drift_at_zero_learning_rate(path, bits):
    """Heads that take turns, 30 steps at lr 0: a stale perturbation that is undone twice would show."""
    ps = parameters(3)
    was = bits(ps)
    opt = sm.SAM(torch.optim.SGD(ps, lr=0.0), rho=0.3)
    gradients = torch.randn(30, 2, 3, 2, dtype=torch.float64).tolist()
    for step, (first, second) in enumerate(gradients):
        one_step(
            opt,
            [None if (step + i) % 3 == 0 else g for i, g in enumerate(first)],
            [None if (step + i) % 2 == 0 else g for i, g in enumerate(second)],
        )
        assert bits(ps) == was


def test_a_layer_that_is_dropped_in_the_second_pass():
    used, dropped = nn.Linear(2, 2), nn.Linear(2, 2)
    was = [p.detach().clone() for p in dropped.parameters()]
    opt = sm.SAM(torch.optim.SGD([*used.parameters(), *dropped.parameters()], lr=0.1), rho=0.5)
    x = torch.randn(3, 2)
    dropped(used(x)).square().mean().backward()
    with opt.perturbed():
        assert not any(torch.equal(p, w) for p, w in zip(dropped.parameters(), was, strict=True))
        used(x).square().mean().backward()
    opt.step()
    assert all(torch.equal(p, w) for p, w in zip(dropped.parameters(), was, strict=True))


def test_frozen_parameters_and_flips_of_requires_grad():
    a, b = parameters()
    a.requires_grad_(False)
    opt = sm.SAM(torch.optim.SGD([a, b], lr=0.1), rho=0.5)
    for frozen, free in ((a, b), (b, a)):
        frozen.requires_grad_(False)
        free.requires_grad_(True)
        was = frozen.detach().clone(), free.detach().clone()
        opt.zero_grad()
        (free * free).sum().backward()
        with opt.perturbed():
            assert torch.equal(frozen, was[0])
            assert (free - was[1]).norm().item() == pytest.approx(0.5, abs=1e-12)
            (free * free).sum().backward()
        opt.step()
        assert torch.equal(frozen, was[0])
        assert not torch.equal(free, was[1])
