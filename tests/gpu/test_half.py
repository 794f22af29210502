"""Weights in bfloat16: the radius and the gain that are reported are those of the weights as they stand."""

import pytest
import torch

import sharpmin as sm

pytestmark = pytest.mark.filterwarnings("ignore:SAM. only .* of the ascent survives")


@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
@pytest.mark.parametrize("rho", [0.05, 1.0])
def test_radius_and_gain(device, training, rounding, rho):
    model, (batch, *_) = training.net(device, torch.bfloat16, dropout=0.0), training.batches(device, torch.bfloat16)
    params = list(model.parameters())
    opt = sm.SAM(torch.optim.SGD(params, lr=0.1), rho=rho, model=model, rounding=rounding, telemetry=True)
    training.loss_of(model, *batch).backward()
    grads, before = [p.grad.double() for p in params], [p.detach().clone() for p in params]
    with opt.perturbed():
        moves = [p.detach().double() - w.double() for p, w in zip(params, before, strict=True)]
        training.loss_of(model, *batch).backward()
    assert all(torch.equal(p, w) for p, w in zip(params, before, strict=True))
    opt.step()
    norm = sum(g.square().sum() for g in grads).sqrt().item()
    radius = sum(e.square().sum() for e in moves).sqrt().item()
    along = sum((e * g).sum() for e, g in zip(moves, grads, strict=True)).item()
    assert opt.last.dual_norm == pytest.approx(norm, rel=1e-4)
    assert opt.last.radius == pytest.approx(radius, rel=1e-4)
    assert opt.last.gain == pytest.approx(along / (rho * norm), rel=1e-3)
    assert opt.last.rho == rho
    if rounding == "stochastic":
        assert opt.last.gain == pytest.approx(1.0, abs=0.15)  # unbiased: all of the ascent in the mean


def test_stochastic_rounding_leaves_the_random_numbers_alone_and_repeats(device, training):
    ends, numbers = [], []
    for _ in range(2):
        model, data = training.net(device, torch.bfloat16), training.batches(device, torch.bfloat16)
        base = torch.optim.SGD(model.parameters(), lr=0.1)
        training.run(model, base, data, rounding="stochastic")
        ends.append([p.detach().clone() for p in model.parameters()])
        numbers.append(torch.rand(4, device=device))
    model, data = training.net(device, torch.bfloat16), training.batches(device, torch.bfloat16)
    training.run(model, torch.optim.SGD(model.parameters(), lr=0.1), data)
    numbers.append(torch.rand(4, device=device))
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))
    assert torch.equal(numbers[0], numbers[1])
    assert torch.equal(numbers[0], numbers[2])
