"""The user's training set-up, and copies of it for the families."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from sharpmin.optim import SAM
from sharpmin.optim._effects.rng import RandomState

from ._case import raised
from ._shared.around import REMADE
from ._shared.scene import Scene, inside
from ._trial import copies, same

LossFn = Callable[[Any, Any], Tensor]


@dataclass
class Setup(Scene):
    """A model, a loss, a batch and an optimizer under test.

    Attributes:
        loss_fn: called as `loss_fn(model(inputs), targets)`; gives a scalar.
        inputs: the input of the model.
        targets: the second argument of the loss.
    """

    loss_fn: LossFn
    inputs: Any
    targets: Any

    def loss(self, k: int) -> Tensor:
        """The loss of the batch."""
        return self.loss_fn(self.model(self.inputs), self.targets)

    def hold(self) -> None:
        """Replace the base's step by nothing, so that a SAM step should change nothing."""
        if self.bases:
            for base in self.bases:
                vars(base)["step"] = _nothing
            return
        for group in self.opt.param_groups:
            if "lr" in group:
                group["lr"] = 0.0

    def copy(self) -> Setup:
        """A copy that shares nothing, without gradients, hooks of optimizers and patched methods.

        Raises:
            TypeError: if something in it cannot be copied.
        """
        memo: dict[int, Any] = {}
        try:
            model = copy.deepcopy(self.model, memo)
            _copy_inside(self.opt, memo)
            opt = _copied(self.opt, memo)
            rest = [copy.deepcopy(part, memo) for part in (self.loss_fn, self.inputs, self.targets)]
        except (TypeError, RuntimeError, AttributeError) as error:
            if isinstance(self.opt, SAM) and "perturbed" in str(error):
                raise
            raise TypeError(
                f"check: the set-up cannot be copied, and check works on copies only ({raised(error)}); give the bare module "
                "(model.module of a parallel wrapper), without tensors of an old graph in its attributes"
            ) from None
        return Setup(model, opt, self.door, rest[0], rest[1], rest[2])


def _nothing(*args: Any, **options: Any) -> None:
    """Replaces the base's `step`."""


def _copied(opt: Any, memo: dict[int, Any]) -> Any:
    """A copy of an optimizer with all attributes: torch's own way of copying keeps groups and state only."""
    if isinstance(opt, SAM) or not isinstance(opt, Optimizer):
        return copy.deepcopy(opt, memo)
    if id(opt) in memo:
        return memo[id(opt)]
    twin = type(opt).__new__(type(opt))
    memo[id(opt)] = twin
    kept = {k: v for k, v in vars(opt).items() if k != "step" and not k.startswith(REMADE)}
    vars(twin).update({k: copy.deepcopy(v, memo) for k, v in kept.items()})
    Optimizer.__setstate__(twin, {})
    return twin


def _copy_inside(opt: Any, memo: dict[int, Any]) -> None:
    """Copy the optimizers inside with all attributes, before torch's own way of copying does."""
    for base in inside(opt):
        _copy_inside(base, memo)
        _copied(base, memo)


@contextmanager
def untouched(setup: Setup) -> Iterator[RandomState]:
    """A block after which weights, buffers, gradients, modes and random states of the set-up are restored.

    Copies protect it already; this is for losses and hooks that hold on to the original.
    """
    weights = setup.weights
    tensors = [*weights, *setup.model.buffers()]
    values, grads = copies(tensors), [(p.grad, None if p.grad is None else p.grad.detach().clone()) for p in weights]
    modes = [(module, module.training) for module in setup.model.modules()]
    random = RandomState(weights)
    try:
        yield random
    finally:
        random.put_back()
        with torch.no_grad():
            for tensor, value in zip(tensors, values, strict=True):
                if not same(tensor, value):
                    tensor.copy_(value)
            for p, (grad, was) in zip(weights, grads, strict=True):
                p.grad = grad
                if grad is not None and was is not None and not grad.is_sparse and not same(grad, was):
                    grad.copy_(was)
        for module, training in modes:
            module.training = training
