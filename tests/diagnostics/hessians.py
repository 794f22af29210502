"""Dense Hessians, and a small net with its data."""

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel


def dense(model, loss_fn, x, y):
    """The Hessian by torch.autograd.functional, on one vector of all trainable weights."""
    named = {k: p for k, p in model.named_parameters() if p.requires_grad}
    shapes = [p.shape for p in named.values()]

    def loss(flat):
        parts = torch.split(flat, [s.numel() for s in shapes])
        weights = {k: part.view(s) for k, part, s in zip(named, parts, shapes, strict=True)}
        return loss_fn(functional_call(model, weights, (x,)), y)

    model.eval()
    with sdpa_kernel(SDPBackend.MATH):
        return torch.autograd.functional.hessian(loss, torch.cat([p.detach().flatten() for p in named.values()])).numpy()


def net(width=8, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 2)).double()


def samples(n=10):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, 3, generator=generator, dtype=torch.float64), torch.arange(n) % 2


def batches(sizes):
    x, y = samples(sum(sizes))
    return list(zip(x.split(sizes), y.split(sizes), strict=True))
