"""docs/recipes/two-losses.md: e and G of one loss, and the gradient of another one at w, against a loop in plain torch."""

import copy

import pytest
import torch
from tests.sam_by_hand import gradient, sam_gradient, step
from torch import nn
from torch.nn.functional import cross_entropy

import sharpmin as sm

STEPS, RHO = 4, 0.2


def net():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 3)).double()


def losses(model):
    rng = torch.Generator().manual_seed(2)
    x, y = torch.randn(20, 4, generator=rng).double(), torch.randint(3, (20,), generator=rng)
    return lambda: -cross_entropy(model(x[:6]), y[:6]), lambda: 0.7 * cross_entropy(model(x[6:]), y[6:])


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def by_hand(model, *, together):
    base, parameters, (forget, retain) = sgd(model), list(model.parameters()), losses(model)
    for _ in range(STEPS):
        if together:
            grads = at_the_same_point(model, forget, retain)
        else:
            grads, _ = sam_gradient(model, [forget], RHO)
            others, _ = gradient(parameters, [retain])
            grads = [a + b for a, b in zip(grads, others, strict=True)]
        step(base, parameters, grads)
    return model


def at_the_same_point(model, forget, retain):
    """e of the forget loss, and the gradient of both at w + e; no module here draws or remembers."""
    parameters = list(model.parameters())
    first, _ = gradient(parameters, [forget])
    norm = sum(g.square().sum() for g in first) ** 0.5
    moved = [p.detach().clone() for p in parameters]
    with torch.no_grad():
        for p, g in zip(parameters, first, strict=True):
            p.add_(g * (RHO / norm))
    grads, _ = gradient(parameters, [forget, retain])
    with torch.no_grad():
        for p, w in zip(parameters, moved, strict=True):
            p.copy_(w)
    return grads


@pytest.mark.parametrize("scaled", [False, True])
def test_the_retain_gradient_at_w(scaled):
    model = net()
    hand = copy.deepcopy(model)
    torch.manual_seed(3)
    by_hand(hand, together=False)
    torch.manual_seed(3)
    opt, (forget, retain) = sm.SAM(sgd(model), rho=RHO, model=model), losses(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8, enabled=scaled)
    for _ in range(STEPS):
        opt.zero_grad()
        with opt.clean():
            scaler.scale(forget()).backward()
        with opt.perturbed(scaler):
            scaler.scale(forget()).backward()
        scaler.scale(retain()).backward()
        scaler.step(opt)
        scaler.update()
    for a, b in zip(model.state_dict().values(), hand.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


def test_both_losses_at_w_plus_e():
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    hand = by_hand(copy.deepcopy(model), together=True)
    opt, (forget, retain) = sm.SAM(sgd(model), rho=RHO), losses(model)
    for _ in range(STEPS):
        opt.zero_grad()
        forget().backward()
        with opt.perturbed():
            forget().backward()
            retain().backward()
        opt.step()
    for a, b in zip(model.parameters(), hand.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


def test_a_forget_gradient_that_is_not_finite_skips_the_whole_step():
    model = net()
    was = copy.deepcopy(model)
    opt, (forget, retain) = sm.SAM(sgd(model), rho=RHO), losses(model)
    with opt.clean():
        (forget() * float("nan")).backward()
    with opt.perturbed():
        forget().backward()
    retain().backward()
    opt.step()
    assert opt.last.stepped is False
    assert all(map(torch.equal, model.parameters(), was.parameters()))
