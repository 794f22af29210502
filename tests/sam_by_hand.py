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


def random_state():
    """Of the CPU and of every GPU."""
    return torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []


def set_random_state(state):
    """Go on from there."""
    torch.set_rng_state(state[0])
    if state[1]:
        torch.cuda.set_rng_state_all(state[1])


def exact_norm(grads):
    """Of all of them together, in float64."""
    return sum(g.double().square().sum().item() for g in grads) ** 0.5


def sam_gradient(model, losses, rho, scale=1.0, norm=exact_norm):
    """The gradient at w + rho g / ||g||, with the random numbers of the first pass, and the loss at w.

    The weights, buffers and random state are then as the first pass alone leaves them.
    """
    parameters = list(model.parameters())
    before = random_state()
    first, loss = gradient(parameters, losses, scale)
    after, buffers = random_state(), [b.clone() for b in model.buffers()]
    weights = [p.detach().clone() for p in parameters]
    with torch.no_grad():
        for p, g in zip(parameters, first, strict=True):
            p.add_(g, alpha=rho / norm(first))
    set_random_state(before)
    second, _ = gradient(parameters, losses, scale)
    set_random_state(after)
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


def apart(found, wanted, start):
    """How far apart the weights of two models are, as a share of the way that they have come from `start`."""
    ends = [nn.utils.parameters_to_vector(model.parameters()).detach().double() for model in (found, wanted, start)]
    return ((ends[0] - ends[1]).norm() / (ends[1] - ends[2]).norm()).item()


def assert_same_end(found, wanted):
    """Both started from where a script with seed 0 starts: the weights came to the same end, and the buffers, too."""
    assert apart(found, wanted, anew(found)) < 1e-4
    for mine, theirs in zip(found.buffers(), wanted.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def functional_gradient(model, batches, rho):
    """J(w + e)^T v, v = dL/dz at w, e = rho g / ||g||; and the loss at w. Functional SAM, arXiv:2502.02407.

    A batch is a pair of functions: one runs the model and returns the logits z, one takes them to the loss. The random numbers
    of the first pass come again in the second; weights and random state are then as the first pass alone leaves them.
    """
    parameters = list(model.parameters())
    before, slopes = random_state(), []

    def loss_of(logits, loss):
        z = logits()
        value = loss(z)
        slopes.append(torch.autograd.grad(value, z, retain_graph=True)[0])
        return value

    first, value = gradient(parameters, [lambda pair=pair: loss_of(*pair) for pair in batches])
    after = random_state()
    norm = sum(g.double().square().sum().item() for g in first) ** 0.5
    weights = [p.detach().clone() for p in parameters]
    with torch.no_grad():
        for p, g in zip(parameters, first, strict=True):
            p.add_(g, alpha=rho / norm)
    set_random_state(before)
    products = [lambda logits=logits, v=v: (logits() * v).sum() for (logits, _), v in zip(batches, slopes, strict=True)]
    second, _ = gradient(parameters, products)
    set_random_state(after)
    with torch.no_grad():
        for p, w in zip(parameters, weights, strict=True):
            p.copy_(w)
    return second, value
