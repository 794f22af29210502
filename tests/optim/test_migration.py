"""Scripts written for the common SAM wrapper: each gets the line to paste, or runs unmodified."""

import pytest
import torch
from torch import nn

import sharpmin as sm

SGD = torch.optim.SGD


def weights():
    return nn.Parameter(torch.tensor([3.0, 1.0], dtype=torch.float64))


def loss(w):
    return 0.5 * (w[0] ** 2 + 4 * w[1] ** 2)


class Own(SGD):
    """Not torch's."""


CONSTRUCTORS = [
    (
        lambda ps: sm.SAM(ps, SGD, rho=0.05, lr=0.1),
        TypeError,
        "sharpmin.SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.05)",
    ),
    (lambda ps: sm.SAM(iter(ps), SGD, lr=0.1, momentum=0.9), TypeError, "SGD(model.parameters(), lr=0.1, momentum=0.9)"),
    (lambda ps: sm.SAM(ps, base_optimizer=SGD, rho=2.0), TypeError, "SGD(model.parameters(), lr=0.1), rho=2.0)"),
    (lambda ps: sm.SAM(ps, SGD, adaptive=True, lr=0.1), TypeError, "sharpmin.asam(torch.optim.SGD(model.parameters(), lr=0.1)"),
    (lambda ps: sm.SAM(ps, Own, lr=0.1), TypeError, "sharpmin.SAM(Own(model.parameters(), lr=0.1)"),
    (lambda ps: sm.SAM(SGD, 0.05), TypeError, "sharpmin.SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.05)"),
    (lambda ps: sm.SAM(SGD(ps, lr=0.1), rho=0.05, adaptive=True), TypeError, "sharpmin.asam(base, rho=0.5)"),
    (
        lambda ps: sm.SAM(SGD(ps, lr=0.1), rho=0.05, momentum=0.9),
        TypeError,
        "settings of the base go into the base's constructor",
    ),
    (lambda ps: sm.SAM(SGD(ps, lr=0.1), rhoo=0.05), TypeError, "unknown keyword 'rhoo'; did you mean rho?"),
    (sm.SAM, TypeError, "build the base first"),
]


@pytest.mark.parametrize(("build", "error", "line"), CONSTRUCTORS)
def test_the_line_to_paste(build, error, line):
    with pytest.raises(error) as told:
        build([weights()])
    assert line in str(told.value)


def pasted(build, model):
    """The optimizer that the line in the error makes."""
    with pytest.raises(TypeError, match="write ") as told:
        build(model.parameters())
    return eval(str(told.value).split("write ")[1], {"sharpmin": sm, "torch": torch, "model": model})


def test_a_pasted_line_runs():
    opt = pasted(lambda ps: sm.SAM(ps, SGD, rho=0.05, lr=0.1, momentum=0.9), nn.Linear(2, 1))
    assert (opt.rho, opt.param_groups[0]["momentum"]) == (0.05, 0.9)


RADII = {  # how the common wrapper is told of a radius: what its lines give, the base apart
    "by position": lambda ps, rho, adaptive: sm.SAM(ps, SGD, rho, adaptive, lr=0.2),
    "the last by name": lambda ps, rho, adaptive: sm.SAM(ps, SGD, rho, adaptive=adaptive, lr=0.2),
    "by name": lambda ps, rho, adaptive: sm.SAM(ps, SGD, rho=rho, adaptive=adaptive, lr=0.2),
    "all by name": lambda ps, rho, adaptive: sm.SAM(params=ps, base_optimizer=SGD, rho=rho, adaptive=adaptive, lr=0.2),
}


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("how", RADII)
def test_the_pasted_line_has_the_radius_and_the_geometry(how, adaptive):
    model = nn.Linear(2, 1)
    opt = pasted(lambda ps: RADII[how](ps, 0.3, adaptive), model)
    ours = (sm.asam if adaptive else sm.sam)(SGD(model.parameters(), lr=0.2), 0.3)
    assert repr(opt) == repr(ours)


@pytest.mark.parametrize("adaptive", [False, True])
def test_the_pasted_line_without_a_radius_has_the_default(adaptive):
    model = nn.Linear(2, 1)
    opt = pasted(lambda ps: sm.SAM(ps, SGD, adaptive=adaptive, lr=0.2), model)
    assert repr(opt) == repr((sm.asam if adaptive else sm.SAM)(SGD(model.parameters(), lr=0.2)))


@pytest.mark.parametrize("passes", [1, 2])
def test_backward_before_a_closure_that_adds_to_it(passes, bits):
    """The loop of the common wrapper: its closure makes the second pass only."""
    w = weights()
    opt, was = sm.SAM(SGD([w], lr=0.1), rho=0.5), bits(w)

    def closure():
        loss(w).backward()
        return loss(w)

    if passes == 2:  # the second step of a script, with what the first one has left
        loss(w).backward()
        with opt.perturbed():
            loss(w).backward()
        opt.step()
        was = bits(w)
    loss(w).backward()
    with pytest.raises(sm.PhaseError, match=r"(?s)leave the backward\(\) before it out.*opt\.zero_grad\(\)"):
        opt.step(closure)
    assert bits(w) == was
    assert w.grad is None


@pytest.mark.parametrize("in_place", [False, True])
def test_a_closure_that_clears_does_not_mind(in_place):
    """Another loss, of a discriminator, say, has left gradients here: the closure clears them."""
    w = weights()
    opt = sm.SAM(SGD([w], lr=0.1), rho=0.5)
    loss(w).backward()

    def closure():
        w.grad = None if not in_place else w.grad.zero_() if w.grad is not None else None
        value = loss(w)
        value.backward()
        return value

    assert opt.step(closure).item() == 6.5
    assert w.tolist() == pytest.approx([2.67, 0.44], abs=1e-12)


def test_an_unmodified_script():
    """`base_optimizer`, a scheduler on it, and another loss in the second pass."""
    w = weights()
    opt = sm.SAM(SGD([w], lr=0.1), rho=0.5)
    scheduler = torch.optim.lr_scheduler.StepLR(opt.base_optimizer, step_size=1, gamma=0.5)
    assert opt.base_optimizer is opt.base
    for _ in range(2):
        loss(w).backward()
        opt.first_step(zero_grad=True)
        (2 * loss(w)).backward()
        opt.second_step(zero_grad=True)
        scheduler.step()
    x = [3.0, 1.0]
    for lr in (0.1, 0.05):
        n = (x[0] ** 2 + 16 * x[1] ** 2) ** 0.5
        at = [x[0] + 0.5 * x[0] / n, x[1] + 0.5 * 4 * x[1] / n]
        x = [x[0] - lr * 2 * at[0], x[1] - lr * 8 * at[1]]
    assert w.tolist() == pytest.approx(x, abs=1e-12)
