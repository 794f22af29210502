"""A model and an optimizer under test: fresh copies of the user's set-up, or a small known function."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

from sharpmin.core.errors import PhaseError

from .._case import NotOffered
from .._doors import DOORS
from .._trial import Holder, Quadratic, Trial, backward, copies


@dataclass
class Scene(ABC):
    """An optimizer under test, the model that it trains, and the way to take a step.

    Attributes:
        model: the model; it may have parameters that the optimizer does not hold.
        opt: the optimizer under test.
        door: how a step is taken.
        passes: called with the number of the pass before its forward and after its backward.
        instead: another loss for the pass of this number.
        silent: the passes that make no backward.
    """

    model: nn.Module
    opt: Any
    door: str
    passes: Callable[[int, str], None] | None = field(default=None, kw_only=True)
    instead: dict[int, Callable[[], Tensor]] = field(default_factory=dict, kw_only=True)
    silent: Sequence[int] = field(default=(), kw_only=True)

    @abstractmethod
    def loss(self, k: int) -> Tensor:
        """What pass k minimizes."""

    def run(self, k: int) -> Tensor:
        """Forward and backward of pass k."""
        if self.passes is not None:
            self.passes(k, "before")
        loss = self.instead[k]() if k in self.instead else self.loss(k)
        if k not in self.silent:
            backward(loss)
        if self.passes is not None:
            self.passes(k, "after")
        return loss

    def step(self) -> None:
        """One SAM step."""
        DOORS[self.door](self.opt, self.run)

    def go_on(self) -> None:
        """The step after one that an exception ended. Ours may refuse it by a `PhaseError`; then `abort()` is the way back."""
        try:
            self.step()
        except PhaseError:
            self.opt.abort()
            self.step()

    @property
    def held(self) -> list[nn.Parameter]:
        """Every parameter of the optimizer, once."""
        return list(dict.fromkeys(p for group in self.opt.param_groups for p in group["params"]))

    @property
    def weights(self) -> list[nn.Parameter]:
        """Every parameter of the model and of the optimizer, once."""
        return list(dict.fromkeys([*self.model.parameters(), *self.held]))

    @property
    def bases(self) -> list[Optimizer]:
        """The base optimizers that were found inside the optimizer."""
        return inside(self.opt)

    @property
    def base(self) -> Optimizer | None:
        """The base optimizer, or None unless exactly one was found."""
        return self.bases[0] if len(self.bases) == 1 else None

    def need_base(self) -> Optimizer:
        """The base optimizer; raises `NotOffered` if none was found."""
        if self.base is None:
            raise NotOffered("the base optimizer inside it could not be found")
        return self.base

    def at_passes(self) -> list[list[Tensor]]:
        """A list that will collect the weights at the start of every pass."""
        seen: list[list[Tensor]] = []
        self.passes = lambda k, when: seen.append(copies(self.held)) if when == "before" else None
        return seen


@dataclass
class Played(Scene):
    """A scene of the suite.

    Attributes:
        of: what pass k minimizes.
    """

    of: Callable[[int], Tensor]

    def loss(self, k: int) -> Tensor:
        """What pass k minimizes."""
        return self.of(k)


def played(t: Trial, model: nn.Module, of: Callable[[int], Tensor], rho: float = 0.5, **how: Any) -> Played:
    """A scene of the suite: a new optimizer under test on all parameters of `model`; `how` goes to `Trial.make`."""
    params = list(model.parameters())
    return Played(model, t.make(params, rho, model=model, **how), t.door, of)


def golden(t: Trial, rho: float = 0.5, **how: Any) -> tuple[Played, Quadratic]:
    """The scene of the golden step, and its function."""
    f = Quadratic.new()
    return played(t, Holder([f.w]), lambda _: f.loss(), rho, **how), f


def inside(opt: Any) -> list[Optimizer]:
    """The optimizers among the attributes of an object, also those in a list."""
    values = [value if isinstance(value, list | tuple) else [value] for value in vars(opt).values()]
    found = [value for several in values for value in several if isinstance(value, Optimizer)]
    return list({id(value): value for value in found}.values())


def generators(weights: Iterable[Tensor]) -> list[Tensor]:
    """The states of the default generators of the CPU and of the devices that hold weights."""
    devices = sorted({p.device for p in weights if p.device.type not in ("cpu", "meta")}, key=str)
    states = [torch.get_device_module(device.type).get_rng_state(device) for device in devices]
    return [torch.get_rng_state(), *states]


def close(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> bool:
    """Whether two lists of tensors agree within 1e-6; nan agrees with nothing."""
    pairs = [(a.double(), b.double()) for a, b in zip(ours, theirs, strict=True)]
    return all(bool(((a - b).abs() <= 1e-6 * b.abs().clamp(min=1.0)).all()) for a, b in pairs)


def length(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    """The Euclidean distance of two lists of tensors."""
    squares = [float((x.double() - y.double()).abs().square().sum()) for x, y in zip(a, b, strict=True)]
    return math.sqrt(sum(squares))
