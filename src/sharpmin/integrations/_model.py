"""Gives SAM the model that a framework trains, for its buffers and its other parameters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from sharpmin.optim import SAM
from sharpmin.optim._effects.others import Others


def parameters(sam: SAM) -> Iterator[Tensor]:
    """The parameters that SAM trains."""
    return (p for group in sam.param_groups for p in group["params"])


def give_model(sam: SAM, model: nn.Module) -> None:
    """Set `model` of a SAM that was made without it.

    >>> import torch
    >>> net = nn.Linear(1, 1)
    >>> opt = SAM(torch.optim.SGD(net.parameters(), lr=0.1))
    >>> give_model(opt, nn.Linear(1, 1))  # holds none of its parameters
    >>> opt.model
    >>> give_model(opt, net)
    >>> opt.model
    Linear(in_features=1, out_features=1, bias=True)
    """
    if sam.model is None and not set(model.parameters()).isdisjoint(parameters(sam)):
        sam.model = model


@contextmanager
def rest_kept(model: nn.Module, sam: SAM) -> Iterator[None]:
    """Context of a second pass: keep the gradients of parameters of `model` that are outside SAM's own model.

    >>> import torch
    >>> a, b = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    >>> opt = SAM(torch.optim.SGD(a.parameters(), lr=0.1), model=a)
    >>> b.bias.grad = torch.ones(1)
    >>> with rest_kept(torch.nn.Sequential(a, b), opt):
    ...     b(torch.ones(1)).backward()
    >>> b.bias.grad, b.weight.grad
    (tensor([1.]), None)
    """
    if sam.model is model:
        yield
        return
    rest = Others(model, [*parameters(sam), *(() if sam.model is None else sam.model.parameters())])
    try:
        yield
    finally:
        rest.put_back()
