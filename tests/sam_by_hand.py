"""SAM written out in plain torch, without sharpmin: what the examples are compared with."""

import copy

import torch
from torch import nn


def anew(model):
    """The model as a script with seed 0 makes it; the random state is then where making it leaves it."""
    model = copy.deepcopy(model).train()
    torch.manual_seed(0)
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return model


def gradient(parameters, losses, scale=1.0):
    """Of the sum of the losses; each is a function without arguments. `scale` is a loss scale."""
    for p in parameters:
        p.grad = None
    total = 0.0
    for loss in losses:
        value = loss()
        (value * scale).backward()
        total += value.item()
    return [p.grad / scale for p in parameters], total


def sam_gradient(model, losses, rho, scale=1.0):
    """The gradient at w + rho g / ||g||, with the random numbers of the first pass, and the loss at w.

    The weights, buffers and random state are then as the first pass alone leaves them.
    """
    parameters = list(model.parameters())
    before = torch.get_rng_state()
    first, loss = gradient(parameters, losses, scale)
    after, buffers = torch.get_rng_state(), [b.clone() for b in model.buffers()]
    norm = sum(g.double().square().sum().item() for g in first) ** 0.5
    weights = [p.detach().clone() for p in parameters]
    with torch.no_grad():
        for p, g in zip(parameters, first, strict=True):
            p.add_(g, alpha=rho / norm)
    torch.set_rng_state(before)
    second, _ = gradient(parameters, losses, scale)
    torch.set_rng_state(after)
    with torch.no_grad():
        for p, w in zip(parameters, weights, strict=True):
            p.copy_(w)
        for b, was in zip(model.buffers(), buffers, strict=True):
            b.copy_(was)
    return second, loss


def step(base, parameters, grads, clip=None):
    """The base optimizer's step with these gradients."""
    for p, g in zip(parameters, grads, strict=True):
        p.grad = g
    if clip is not None:
        nn.utils.clip_grad_norm_(parameters, clip)
    base.step()


def assert_same(model, other, *, without=(), **tolerance):
    """Equal weights and buffers, but for the names that end in one of `without`."""
    for (name, mine), theirs in zip(model.state_dict().items(), other.state_dict().values(), strict=True):
        if not name.endswith(tuple(without)):
            torch.testing.assert_close(mine, theirs, **tolerance, msg=lambda text, name=name: f"{name}: {text}")
