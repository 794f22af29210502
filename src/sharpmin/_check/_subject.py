"""The optimizer under test: how to construct it, and its doors.

Classes are read by the names in their signature. `Cls(params, base_class, rho=..., **base_options)` and `Cls(base, rho=...)`
are the common ones; others need a factory `(params, base_class, rho, base_options) -> optimizer`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from sharpmin.optim import SAM

from ._case import raised
from ._doors import FOREIGN, OURS, closure, detect
from ._isolate import isolated
from ._signature import HINT, Signature

Build = Callable[[Any, type[torch.optim.Optimizer], float, dict[str, Any], nn.Module], Any]
Several = Callable[[list[torch.optim.Optimizer], float, nn.Module], Any]


@dataclass(frozen=True)
class Subject:
    """The optimizer under test.

    Attributes:
        name: its name in the report.
        build: makes one from parameters or groups, the base's class, rho, the base's options and the model.
        doors: the ways to take a step with it; a family passes if it passes through all.
        ours: whether it is `sharpmin.SAM` or a subclass, of which more is required.
        takes_model: whether the model reaches it.
        per_rank: makes one that perturbs per rank (scope="rank"); None if its constructor has no such argument.
        several: makes one around several bases that exist; None if its constructor makes the base.
    """

    name: str
    build: Build
    doors: tuple[str, ...]
    ours: bool = False
    takes_model: bool = False
    per_rank: Build | None = None
    several: Several | None = None


def our_sam(cls: type[SAM] = SAM, door: str | None = None) -> Subject:
    """`sharpmin.SAM`, through the block and the closure.

    >>> our_sam().doors
    ('clean', 'closure', 'two-step')
    """
    if door not in (None, "block", *OURS):
        raise ValueError(f"door={door!r}: {cls.__name__} has block, clean, closure and two-step")

    def build(params: Any, base: type[torch.optim.Optimizer], rho: float, options: dict[str, Any], model: nn.Module) -> Any:
        return cls(base(params, **options), rho, model=model)

    def per_rank(params: Any, base: type[torch.optim.Optimizer], rho: float, options: dict[str, Any], model: nn.Module) -> Any:
        return cls(base(params, **options), rho, model=model, scope="rank")

    def several(bases: list[torch.optim.Optimizer], rho: float, model: nn.Module) -> Any:
        several: Any = bases
        return cls(several, rho, model=model)

    name = f"{cls.__module__.split('.')[0]}.{cls.__name__}"
    doors = (door,) if door else OURS
    return Subject(name, build, doors, ours=True, takes_model=True, per_rank=per_rank, several=several)


def of_class(target: Any, name: str, *, door: str | None = None, extra: Mapping[str, Any] | None = None) -> Subject:
    """A class, or a function that makes one, read by its signature.

    Args:
        target: the class.
        name: how it is called.
        door: "closure" or "two-step"; by default what it has.
        extra: more arguments for its constructor.

    Raises:
        TypeError: if it is no SAM, or its signature cannot be read; the message says what to do.
    """
    if isinstance(target, type) and issubclass(target, SAM) and not extra:
        return our_sam(target, door)
    if not callable(target):
        raise TypeError(f"{name} is a {type(target).__name__}, no class")
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):
        raise TypeError(f"{name} has no signature that can be read; {HINT}") from None
    read = Signature.of(target, name, signature, dict(extra or {}))
    subject = replace(_probed(name, read.build, door, "model" in read.roles), several=read.several)
    if "scope" not in signature.parameters or "scope" in (extra or {}):
        return subject
    return replace(subject, per_rank=Signature.of(target, name, signature, {**(extra or {}), "scope": "rank"}).build)


def of_factory(make: Any, name: str, *, door: str | None = None) -> Subject:
    """A factory `(params, base_class, rho, base_options)`, which may have more arguments `model` and `scope` ("rank").

    Raises:
        TypeError: if it cannot be called like this, or makes no SAM.
    """
    if not callable(make):
        raise TypeError(f"{name} is a {type(make).__name__}, no function; {HINT}")
    named = inspect.signature(make).parameters
    takes_model = "model" in named

    def build(params: Any, base: type[torch.optim.Optimizer], rho: float, options: dict[str, Any], model: nn.Module) -> Any:
        return make(params, base, rho, options, **({"model": model} if takes_model else {}))

    def per_rank(params: Any, base: type[torch.optim.Optimizer], rho: float, options: dict[str, Any], model: nn.Module) -> Any:
        return make(params, base, rho, options, scope="rank", **({"model": model} if takes_model else {}))

    return replace(_probed(name, build, door, takes_model), per_rank=per_rank if "scope" in named else None)


def _probed(name: str, build: Build, door: str | None, takes_model: bool) -> Subject:
    """Construct one and take a step, so that wrong input fails before any family runs."""
    if door not in (None, *FOREIGN):
        raise ValueError(f"--door {door}: give closure or two-step")
    with isolated():
        try:
            net = nn.Linear(1, 1)
            opt = build(list(net.parameters()), torch.optim.SGD, 0.05, {"lr": 0.1}, net)
        except Exception as error:
            raise TypeError(f"{name} could not be constructed: {raised(error)}; {HINT}") from None
        found = detect(opt, door, name)
        if found == "block":
            return Subject(name, build, OURS, ours=True, takes_model=takes_model)
        if found == "closure" and _passes(opt, net) == 1:
            found = "closure-after-backward"
    return Subject(name, build, (found,), takes_model=takes_model)


def _passes(opt: Any, net: nn.Module) -> int:
    """The number of closure calls in one step."""
    calls = 0

    def run(_: int) -> Any:
        nonlocal calls
        calls += 1
        loss = net(torch.ones(1, 1)).square().sum()
        loss.backward()
        return loss

    try:
        closure(opt, run)
    except Exception:
        return 0
    return calls
