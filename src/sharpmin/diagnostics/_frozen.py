"""The read-only contract of the probes: whatever happens inside, the model comes out bit for bit as it went in.

Weights are written through `p.data`, which leaves version counters alone: a `backward()` that was pending still works.
"""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sharpmin.optim.buffers import _own_entries
from sharpmin.optim.rng import RandomState
from sharpmin.optim.tensors import copy_all, displace


class Randomness:
    """Every generator that a forward pass or a loader may draw from, at one moment.

    >>> state = Randomness([], None)
    >>> first = torch.rand(2), random.random()
    >>> state.put_back()
    >>> torch.equal(first[0], torch.rand(2)), first[1] == random.random()
    (True, True)
    """

    def __init__(self, parameters: Sequence[Tensor], data: object):
        self._torch = RandomState(parameters)
        self._python = random.getstate()
        numpy = sys.modules.get("numpy")  # never imported for this
        self._numpy: tuple[Any, Any] | None = None if numpy is None else (numpy, numpy.random.get_state())
        self._own = [(g, g.get_state()) for g in _generators(data)]

    def put_back(self) -> None:
        """Set every generator to that moment."""
        self._torch.put_back()
        random.setstate(self._python)
        if self._numpy is not None:
            self._numpy[0].random.set_state(self._numpy[1])
        for generator, state in self._own:
            generator.set_state(state)


def _generators(data: object) -> list[torch.Generator]:
    """The generators of a loader and of its samplers."""
    sampler, batches = getattr(data, "sampler", None), getattr(data, "batch_sampler", None)
    holders = (data, sampler, batches, getattr(batches, "sampler", None))
    found = [getattr(holder, "generator", None) for holder in holders]
    return list({id(g): g for g in found if isinstance(g, torch.Generator)}.values())


@dataclass(frozen=True)
class Frozen:
    """The weights that a probe may move, and where they belong.

    Attributes:
        weights: the parameters that require a gradient.
        anchor: their values.
        random: the generators; every pass over the data starts from this state.
    """

    weights: list[nn.Parameter]
    anchor: list[Tensor]
    random: Randomness

    @torch.no_grad()
    def move(self, displacement: Sequence[Tensor], factor: float = 1.0) -> None:
        """weights = anchor + factor * displacement, rounded once."""
        self.home()
        for p, e in zip(self.weights, displacement, strict=True):
            displace(p.data, e * factor)

    @torch.no_grad()
    def home(self) -> None:
        """weights = anchor."""
        copy_all([p.data for p in self.weights], self.anchor)

    @torch.no_grad()
    def moved(self) -> list[Tensor]:
        """The displacement that the weights really have, after rounding."""
        pairs = zip(self.weights, self.anchor, strict=True)
        return [p.data.to(_at_least_single(a)) - a.to(_at_least_single(a)) for p, a in pairs]


def _at_least_single(t: Tensor) -> torch.dtype:
    return torch.promote_types(t.dtype, torch.float32)


@contextmanager
def frozen(model: nn.Module, data: object = None) -> Iterator[Frozen]:
    """Evaluation mode for a while; then everything is as before, also after an exception.

    Restored: the values, addresses and identity of trainable weights, of buffers and of tensors that modules hold as plain
    attributes; `grad`, `requires_grad`; the mode of every module; plain attributes; the generators of torch on the devices in
    use, of Python, of NumPy and of the loader. `train()` is not called, since some models change weights in it.

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
    weights = [p for p in parameters if p.requires_grad]
    with ExitStack() as after:
        randomness = Randomness([*parameters, *model.buffers()], data)
        after.callback(randomness.put_back)
        for module in model.modules():
            after.callback(_keep_module(module))
        copies = _keep_values([*weights, *_other_tensors(model)], after)
        after.callback(torch.clear_autocast_cache)  # weights are cast once and remembered: never those of another point
        for p in parameters:
            after.callback(_restore_parameter, p, p.requires_grad, p.grad)
            p.grad = None
        for module in model.modules():
            module.training = False
        yield Frozen(weights, copies[: len(weights)], randomness)


def _keep_module(module: nn.Module) -> Callable[[], None]:
    """What binds a module's names again, and its mode."""
    kept = [(names, dict(names.items())) for names in (module._parameters, module._buffers, vars(module))]
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
            own = _own_entries(t) if t.layout is torch.strided else ()
            (t.data[own] if own else t.data).copy_(copy[own] if own else copy)

    after.callback(restore)
    return copies


def _restore_parameter(p: nn.Parameter, requires_grad: bool, grad: Tensor | None) -> None:
    if p.requires_grad != requires_grad:
        p.requires_grad_(requires_grad)
    p.grad = grad


@contextmanager
def plain_kernels(model: nn.Module) -> Iterator[None]:
    """Kernels that differentiate in evaluation mode: no fused encoder layer, and no cuDNN where there are recurrent nets."""
    mha = torch.backends.mha
    fast = mha.get_fastpath_enabled()
    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    with torch.backends.cudnn.flags(enabled=False) if recurrent else contextlib.nullcontext():
        mha.set_fastpath_enabled(False)
        try:
            yield
        finally:
            mha.set_fastpath_enabled(fast)
