"""The read-only contract of the probes: the model is restored bit for bit, whatever happens inside.

Weights are written through `p.data`, which does not change version counters, so that a pending `backward()` still works.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sharpmin.optim._effects.buffers import own_entries
from sharpmin.optim._numeric.kinds import at_least_float32
from sharpmin.optim._numeric.loops import displace, times
from sharpmin.optim._numeric.tensors import copy_all

from .._generators import Randomness


@dataclass(frozen=True)
class Frozen:
    """The weights that a probe may move, and their values.

    Attributes:
        weights: the parameters that require a gradient.
        anchor: their values.
        random: the state of the generators, from which every pass over the data starts.
    """

    weights: list[nn.Parameter]
    anchor: list[Tensor]
    random: Randomness

    @torch.no_grad()
    def move(self, displacement: Sequence[Tensor], factor: float = 1.0) -> None:
        """weights = anchor + factor * displacement, rounded once."""
        self.home()
        for p, e in zip(self.weights, displacement, strict=True):
            displace(p.data, times(e, factor))

    @torch.no_grad()
    def home(self) -> None:
        """weights = anchor."""
        copy_all([p.data for p in self.weights], self.anchor)

    @torch.no_grad()
    def moved(self) -> list[Tensor]:
        """The realized displacement of the weights, after rounding."""
        return [at_least_float32(p.data) - at_least_float32(a) for p, a in zip(self.weights, self.anchor, strict=True)]


@contextmanager
def frozen(model: nn.Module, data: object = None) -> Iterator[Frozen]:
    """A block in evaluation mode, after which everything is restored, also after an exception.

    Restored: the values and the identity of all parameters, of buffers and of tensors that modules hold as attributes; `grad`,
    `requires_grad`; every attribute of a module, its mode among them; the generators of torch on the devices in
    use, of Python, of NumPy and of the loader. Not restored: the contents of lists, dicts and other objects in a
    module, and what hooks write elsewhere. `train()` is not called, since some models change weights in it.

    >>> net = nn.Linear(1, 1, bias=False)
    >>> before = net.weight.item()
    >>> with frozen(net) as held:
    ...     held.move([torch.ones(1, 1)])
    ...     round(net.weight.item() - before, 5), net.training
    (1.0, False)
    >>> net.weight.item() == before, net.training
    (True, True)
    """
    parameters = list(model.parameters())
    weights, others = ([p for p in parameters if p.requires_grad is trains] for trains in (True, False))
    with ExitStack() as after:
        randomness = Randomness([*parameters, *model.buffers()], data)
        after.callback(randomness.put_back)
        for module in model.modules():
            after.callback(_keep_module(module))
        copies = _keep_values([*weights, *others, *_other_tensors(model)], after)
        after.callback(torch.clear_autocast_cache)  # autocast caches casts of moved weights
        for p in parameters:
            after.callback(_restore_parameter, p, p.requires_grad, p.grad)
            p.grad = None
        for module in model.modules():
            module.training = False
        yield Frozen(weights, copies[: len(weights)], randomness)


def _keep_module(module: nn.Module) -> Callable[[], None]:
    """A function that restores a module's attributes and mode."""
    kept = [(names, dict(names.items())) for names in (module._parameters, module._buffers, module._modules, vars(module))]
    mode = module.training

    def restore() -> None:
        for names, before in kept:
            _rebind(names, before)
        if module.training != mode:
            module.training = mode

    return restore


def _rebind(names: dict[str, Any], before: dict[str, Any]) -> None:
    for name in [name for name in names if name not in before]:
        del names[name]
    for name, value in before.items():
        if names.get(name) is not value:
            names[name] = value


def _other_tensors(model: nn.Module) -> list[Tensor]:
    """Buffers, and tensors that modules hold as plain attributes, each once."""
    found = [t for module in model.modules() for t in (*module._buffers.values(), *vars(module).values())]
    return list({id(t): t for t in found if isinstance(t, Tensor) and not isinstance(t, nn.Parameter)}.values())


def _keep_values(tensors: Sequence[Tensor], after: ExitStack) -> list[Tensor]:
    copies = [t.detach().clone() for t in tensors]

    @torch.no_grad()
    def restore() -> None:
        for t, copy in zip(tensors, copies, strict=True):
            own = own_entries(t) if t.layout is torch.strided else ()
            (t.data[own] if own else t.data).copy_(copy[own] if own else copy)

    after.callback(restore)
    return copies


def _restore_parameter(p: nn.Parameter, requires_grad: bool, grad: Tensor | None) -> None:
    if p.requires_grad != requires_grad:
        p.requires_grad_(requires_grad)
    p.grad = grad
