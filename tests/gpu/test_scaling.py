"""Loss scaling and gradients that are not finite, in either pass."""

import pytest
import torch
from tests.sam_by_hand import apart, sam_gradient, step
from torch import nn

import sharpmin as sm

SCALE = 2.0**12


def half_loss(device, model, x, y):
    """Cross-entropy under autocast in float16."""
    with torch.autocast(device, torch.float16):
        return nn.functional.cross_entropy(model(x), y)


def test_a_scaler_in_float16(device, training):
    mine, theirs, start = (training.net(device) for _ in range(3))
    data = training.batches(device)
    opt = sm.SAM(torch.optim.SGD(mine.parameters(), lr=0.05, momentum=0.9), rho=0.05, model=mine)
    scaler = torch.amp.GradScaler(device, init_scale=SCALE)
    torch.manual_seed(5)
    for x, y in data:
        opt.zero_grad()
        with opt.clean():
            scaler.scale(half_loss(device, mine, x, y)).backward()
        with opt.perturbed(scaler):
            scaler.scale(half_loss(device, mine, x, y)).backward()
        scaler.unscale_(opt)
        nn.utils.clip_grad_norm_(mine.parameters(), 1.0)
        scaler.step(opt)
        scaler.update()
        assert opt.last.stepped
    base = torch.optim.SGD(theirs.parameters(), lr=0.05, momentum=0.9)
    torch.manual_seed(5)
    for x, y in data:
        losses = [lambda x=x, y=y: half_loss(device, theirs, x, y)]
        step(base, list(theirs.parameters()), sam_gradient(theirs, losses, 0.05, scale=SCALE)[0], clip=1.0)
    assert apart(mine, theirs, start) < 2e-2  # the rounding of float16 turns over where e differs in its last digit
    assert scaler.get_scale() == SCALE


@pytest.mark.parametrize("which", [1, 2])
def test_an_overflow_in_either_pass_moves_nothing_and_halves_the_scale_once(device, training, same_bits, which):
    model, (batch, *_) = training.net(device), training.batches(device)
    opt = sm.SAM(torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9), rho=0.05, model=model)
    scaler = torch.amp.GradScaler(device, init_scale=SCALE)
    before = [p.detach().clone() for p in model.parameters()]

    def backward(number):
        scaler.scale(training.loss_of(model, *batch)).backward()
        if number == which:
            model[0].weight.grad[0] = float("inf")

    backward(1)
    with opt.perturbed(scaler):
        backward(2)
    scaler.step(opt)
    scaler.update()
    assert same_bits(list(model.parameters()), before)
    assert (scaler.get_scale(), opt.last.stepped) == (SCALE / 2, False)
    assert not opt.base.state
    assert opt.param_groups[0]["sharpmin_step"] == 0


@pytest.mark.filterwarnings("ignore:SAM. a (first|second) gradient of step:UserWarning")
@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("which", [1, 2])
@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_not_finite_without_a_scaler(device, which, skip, bad):
    """f(w) = ||w||^2 / 2. Without `skip_nonfinite` a GPU is not asked: e is 0 then, and the second gradient counts."""
    w = nn.Parameter(torch.tensor([3.0, 4.0], device=device))
    opt = sm.SAM(torch.optim.SGD([w], lr=0.1), rho=0.5, skip_nonfinite=skip)
    seen = []

    def backward(number):
        seen.append(w.detach().clone())
        w.grad = w.detach().clone()
        if number == which:
            w.grad[0] = bad

    backward(1)
    with opt.perturbed():
        backward(2)
    opt.step()
    asked = skip or device == "cpu"
    assert opt.last.stepped == (not asked)
    at, climbed = torch.tensor([3.0, 4.0]), torch.tensor([3.3, 4.4])
    torch.testing.assert_close(seen[1].cpu(), at if which == 1 else climbed)
    if asked:
        assert w.tolist() == [3.0, 4.0]
    elif which == 1:
        torch.testing.assert_close(w.detach().cpu(), 0.9 * at)
    else:
        assert not w[0].isfinite()
        torch.testing.assert_close(w[1].detach().cpu(), at[1] - 0.1 * climbed[1])
