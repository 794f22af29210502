"""Parameters of a model that SAM does not train: the second pass leaves their gradients alone."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from .._gradients import Pairs, kept
from .buffers import Modules


class Others:
    """Copies of the gradients of a model's other parameters.

    Without them both passes would add up there, in the step of another optimizer and in the norm for clipping.

    Args:
        model: the model.
        parameters: the parameters that SAM trains.

    >>> import torch
    >>> a, b = nn.Linear(1, 1), nn.Linear(1, 1)
    >>> b.bias.grad = torch.ones(1)
    >>> others = Others(nn.Sequential(a, b), a.parameters())
    >>> b(torch.ones(1)).backward()
    >>> others.put_back()
    >>> b.bias.grad, b.weight.grad
    (tensor([1.]), None)
    """

    def __init__(self, model: nn.Module, parameters: Iterable[Tensor], modules: Modules | None = None):
        own = set(map(id, parameters))
        self._without, with_gradient = list[Tensor](), Pairs()
        for _, module in model.named_modules() if modules is None else modules:
            for p in module._parameters.values():
                if p is None or id(p) in own or not p.requires_grad:
                    continue
                if p.grad is None:
                    self._without.append(p)
                else:
                    with_gradient.append((p, p.grad))
        self.gradients = kept(with_gradient)
        for q, _ in self.gradients:
            q.grad = None

    def put_back(self) -> None:
        """Restore the gradients of the first pass and clear all others."""
        for p in self._without:
            p.grad = None
        for q, grad in self.gradients:
            q.grad = grad
