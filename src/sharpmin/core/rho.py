"""The perturbation radius over time: `rho_t`, in front of `e_t = rho_t * v_t` with `||v_t|| = 1`.

A schedule is asked twice in a step. `active(step, lr)` comes before any norm is known: `False` promises the Python float
`0.0` whatever the gradient will be, so the second pass can be saved, and the group does not enter the norm that the
other groups share. The call itself comes after, with the dual norm in hand. One arithmetic serves floats (a
CPU run), 0-dim tensors (an accelerator, without a host sync) and NumPy arrays (the lanes of the laboratory).

| schedule | rho_t, with n the dual norm of the gradient | all the way? (deterministic, nonconvex) |
|---|---|---|
| `Constant(rho)` | rho | no: a floor of order rho^2 |
| `Cosine(rho, steps)` | rho (1 + cos(pi t / steps)) / 2, then 0 | yes |
| `InverseSqrt(rho)` | rho / sqrt(t + 1) | yes |
| `ProportionalToLR(rho, lr, power)` | rho (lr_t / lr)^power | if lr_t decays |
| `Every(rho, k)` | rho on every k-th step, else 0 | no |
| `Tail(rho, start)` | 0 before the step `start`, then rho | no: the floor of rho |
| `Until(rho, stop)` | rho before the step `stop`, then 0 | yes |
| `Unnormalized(rho)` | rho n | yes, if beta rho < 1 |
| `Capped(rho, c)` | min(rho, c n) | yes, if beta c < 1 |
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from numbers import Real
from typing import Any, TypeAlias

Scalar: TypeAlias = Any
"""A float, a 0-dim tensor, or a NumPy array over lanes."""

COUNTABLE = 2**63
"""No count of steps, seeds or samples reaches this."""


@dataclass(frozen=True)
class StepInfo:
    """What a schedule may know: the step count (from 0), the learning rate, the dual norm of the gradient, the group."""

    step: int
    lr: Scalar = 0.0
    dual_norm: Scalar = 0.0
    group: Mapping[str, Any] = field(default_factory=dict)


def real(value: Any) -> float:
    """A number as a float; one that no float can hold, such as `10**400`, is infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def finite(value: object, name: str, owner: str, *, low: float = -math.inf, strict: bool = False) -> float:
    """`value` as a float in `[low, inf)`, or `(low, inf)` if strict; else one clear error."""
    need = "a finite number" + (f" {'>' if strict else '>='} {low:g}" if low > -math.inf else "")
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{owner}: {name}={value!r} is a {type(value).__name__}; {name} must be {need}")
    number = real(value)
    if not math.isfinite(number) or number < low or (strict and number == low):
        raise ValueError(f"{owner}: {name}={value if math.isfinite(number) else number!r}; {name} must be {need}")
    return number


def positive_integer(value: object, name: str, owner: str) -> int:
    """`value` as an int >= 1; else one clear error."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{owner}: {name}={value!r} is a {type(value).__name__}; {name} must be an integer >= 1")
    if value < 1:
        raise ValueError(f"{owner}: {name}={value!r}; {name} must be an integer >= 1")
    if value >= COUNTABLE:
        raise ValueError(f"{owner}: {name} has {value.bit_length()} bits; {name} must be an integer below 2**63")
    return value


class RhoSchedule(ABC):
    """A radius over time: a frozen dataclass that prints as its constructor and pickles."""

    @abstractmethod
    def __call__(self, info: StepInfo) -> Scalar:
        """The radius of this step; the Python float `0.0` means no second pass."""

    def active(self, step: int, lr: Scalar) -> bool:
        """Whether the radius can be positive at this step; `False` promises `0.0` whatever the norm.

        A radius that only an accelerator knows can be; a negative or nan one is active, and refused when it is asked.
        """
        radius = self(StepInfo(step, lr, 1.0))
        return not getattr(radius, "is_cpu", True) or bool(radius != 0)

    def __post_init__(self) -> None:
        for item in fields(self):  # type: ignore[arg-type]  # every concrete schedule is a dataclass
            value, name, owner = getattr(self, item.name), item.name, type(self).__name__
            if item.type in ("int", int):
                positive_integer(value, name, owner)
            elif item.type in ("float", float):
                number = finite(value, name, owner, low=0, strict=name == "lr")
                if not isinstance(value, (int, float)):  # a NumPy float32, say: its arithmetic would be that of float32
                    object.__setattr__(self, name, number)
            elif item.type in ("Rho", Rho):
                as_schedule(value, owner)


Rho: TypeAlias = float | RhoSchedule


def as_schedule(rho: object, owner: str = "rho") -> RhoSchedule:
    """A number becomes `Constant`; a schedule stays.

    Raises:
        TypeError: if `rho` is neither.
        ValueError: if the number is negative, infinite or nan.
    """
    if isinstance(rho, RhoSchedule):
        return rho
    if isinstance(rho, Real) and not isinstance(rho, bool):
        return _constant(finite(rho, "rho", owner, low=0))
    raise TypeError(
        f"{owner}: rho={rho!r} is a {type(rho).__name__}; give a number such as 0.05 or a schedule such as "
        "sharpmin.rho.Cosine(0.05, steps=1000)"
    )


@lru_cache(maxsize=64)
def _constant(rho: float) -> RhoSchedule:
    """Every group asks for its own at every step."""
    return Constant(rho)


def _radius(rho: Rho, info: StepInfo) -> Scalar:
    return rho(info) if isinstance(rho, RhoSchedule) else float(rho)


def _minimum(a: float, b: Scalar) -> Scalar:
    """min(a, b) for a float `a` and a float, array or tensor `b`."""
    return min(a, b) if isinstance(b, (int, float)) else b.clip(max=a)


@dataclass(frozen=True)
class Constant(RhoSchedule):
    """rho_t = rho.

    >>> Constant(0.05)(StepInfo(step=7))
    0.05
    """

    rho: float

    def __call__(self, info: StepInfo) -> Scalar:
        """`rho`."""
        return float(self.rho)


@dataclass(frozen=True)
class Cosine(RhoSchedule):
    """rho_t = rho (1 + cos(pi t / steps)) / 2, and 0 from `steps` on, where SAM costs one pass.

    >>> Cosine(0.05, steps=100)(StepInfo(step=50))
    0.025
    >>> Cosine(0.05, steps=100).active(step=100, lr=0.1)
    False
    """

    rho: float
    steps: int

    def __call__(self, info: StepInfo) -> Scalar:
        """The radius at `info.step`."""
        return self.rho * (1 + math.cos(math.pi * info.step / self.steps)) / 2 if info.step < self.steps else 0.0


@dataclass(frozen=True)
class InverseSqrt(RhoSchedule):
    """rho_t = rho / sqrt(t + 1): sum rho_t^2 / T -> 0, so deterministic SAM converges all the way (statement D1).

    >>> InverseSqrt(0.5)(StepInfo(step=3))
    0.25
    """

    rho: float

    def __call__(self, info: StepInfo) -> Scalar:
        """The radius at `info.step`."""
        return self.rho / math.sqrt(info.step + 1)


@dataclass(frozen=True)
class ProportionalToLR(RhoSchedule):
    """rho_t = rho (lr_t / lr)^power: follows the learning rate; power 1/2 is the natural scaling (statement D3).

    >>> ProportionalToLR(0.5, lr=0.1, power=0.5)(StepInfo(step=0, lr=0.025))
    0.25
    """

    rho: float
    lr: float
    power: float = 1.0

    def __call__(self, info: StepInfo) -> Scalar:
        """The radius at `info.lr`."""
        return self.rho * (info.lr / self.lr) ** self.power


@dataclass(frozen=True)
class Every(RhoSchedule):
    """`rho` (a number or a schedule) on the steps 0, k, 2k, ..., and 0 between.

    >>> [Every(0.05, k=2)(StepInfo(step=t)) for t in range(3)]
    [0.05, 0.0, 0.05]
    """

    rho: Rho
    k: int

    def __call__(self, info: StepInfo) -> Scalar:
        """The radius at `info.step`."""
        return 0.0 if info.step % self.k else _radius(self.rho, info)


@dataclass(frozen=True)
class Tail(RhoSchedule):
    """`rho` (a number or a schedule) from the step `start` on, and 0 before: a warm start with the base optimizer.

    A schedule inside keeps the clock of the run: it is asked with the step, not with the steps since `start`.

    >>> [Tail(0.05, start=2)(StepInfo(step=t)) for t in range(4)]
    [0.0, 0.0, 0.05, 0.05]
    """

    rho: Rho
    start: int

    def __call__(self, info: StepInfo) -> Scalar:
        """The radius at `info.step`."""
        return _radius(self.rho, info) if info.step >= self.start else 0.0


@dataclass(frozen=True)
class Until(RhoSchedule):
    """`rho` (a number or a schedule) before the step `stop`, and 0 from then on: a late switch (statement R3).

    >>> [Until(0.05, stop=2)(StepInfo(step=t)) for t in range(4)]
    [0.05, 0.05, 0.0, 0.0]
    """

    rho: Rho
    stop: int

    def __call__(self, info: StepInfo) -> Scalar:
        """The radius at `info.step`."""
        return _radius(self.rho, info) if info.step < self.stop else 0.0


@dataclass(frozen=True)
class Unnormalized(RhoSchedule):
    """rho_t = rho n: SAM without normalisation, e = rho g, which never divides by a norm (statement U1).

    >>> Unnormalized(0.5)(StepInfo(step=0, dual_norm=5.0))
    2.5
    """

    rho: Rho

    def __call__(self, info: StepInfo) -> Scalar:
        """The radius for the dual norm at hand."""
        return _radius(self.rho, info) * info.dual_norm


@dataclass(frozen=True)
class Capped(RhoSchedule):
    """rho_t = min(rho, c n): SAM far from stationarity, and SAM without normalisation of strength `c` close to it.

    >>> [Capped(0.5, c=0.1)(StepInfo(step=0, dual_norm=n)) for n in (100.0, 1.0)]
    [0.5, 0.1]
    """

    rho: Rho
    c: float

    def __call__(self, info: StepInfo) -> Scalar:
        """The radius for the dual norm at hand."""
        return _minimum(_radius(self.rho, info), self.c * info.dual_norm)
