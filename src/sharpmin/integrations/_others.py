"""Parameters of a model that SAM does not train: the second pass leaves their gradients alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from sharpmin.optim import SAM


def parameters(sam: SAM) -> Iterator[Tensor]:
    """The parameters that SAM trains."""
    return (p for group in sam.param_groups for p in group["params"])


@contextmanager
def others_kept(model: nn.Module, sam: SAM) -> Iterator[None]:
    """Every parameter of `model` that is not in `sam` comes out with the gradient that it went in with.

    Otherwise both passes would add up there: in the step of another optimizer, and in the norm that clipping takes.

    >>> import torch
    >>> a, b = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    >>> opt = SAM(torch.optim.SGD(a.parameters(), lr=0.1))
    >>> b.bias.grad = torch.ones(1)
    >>> with others_kept(torch.nn.Sequential(a, b), opt):
    ...     b(torch.ones(1)).backward()
    >>> b.bias.grad, b.weight.grad
    (tensor([1.]), None)
    """
    own = set(parameters(sam))
    others = [p for p in model.parameters() if p.requires_grad and p not in own]
    before = [(p, None if p.grad is None else p.grad.clone()) for p in others]  # DDP may write into the same memory again
    for p in others:
        p.grad = None
    try:
        yield
    finally:
        for p, grad in before:
            p.grad = grad
