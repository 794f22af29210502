"""The base class of schedules of the radius, what they may use, and the constant one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from numbers import Real
from typing import Any, ClassVar, TypeAlias

from ._numbers import finite, positive_integer

Scalar: TypeAlias = Any
"""A float, a 0-dim tensor, or a NumPy array over lanes."""


@dataclass(frozen=True)
class StepInfo:
    """What a schedule may know.

    Attributes:
        step: the count of steps before this one.
        lr: the learning rate.
        dual_norm: of the gradient.
        group: the parameter group.
        memory: what a schedule with a memory has kept of the steps before; None where nobody keeps it.
    """

    step: int
    lr: Scalar = 0.0
    dual_norm: Scalar = 0.0
    group: Mapping[str, Any] = field(default_factory=dict)
    memory: Mapping[str, float] | None = None


class RhoSchedule(ABC):
    """A radius over time: a frozen dataclass that prints as its constructor and pickles.

    Attributes:
        remembers: the names of the numbers of a stateful schedule, which start at 0. The optimizer stores them in
            the parameter group, so they are in checkpoints; the dual norm then is a Python float, on every device.

    Raises:
        ValueError: if a number of a schedule is negative or not finite, or a schedule with a memory is inside another.
    """

    remembers: ClassVar[tuple[str, ...]] = ()

    def remember(self, info: StepInfo) -> dict[str, float]:
        """Return the stored numbers after this step; they are kept if the step is taken."""
        return {}

    @abstractmethod
    def __call__(self, info: StepInfo) -> Scalar:
        """The radius of this step; the Python float `0.0` means no second pass."""

    def active(self, step: int, lr: Scalar) -> bool:
        """Whether the radius can be positive at this step; `False` promises `0.0` whatever the norm.

        True if only a device knows the radius, and for a negative or nan one, which is refused later.
        """
        radius = self(StepInfo(step, lr, 1.0))
        return not getattr(radius, "is_cpu", True) or bool(radius != 0)

    def __post_init__(self) -> None:
        for item in fields(self):  # type: ignore[arg-type]  # every concrete schedule is a dataclass
            value, name, owner = getattr(self, item.name), item.name, type(self).__name__
            if item.type in ("int", "Moment", int):
                positive_integer(value, name, owner)
            elif item.type in ("float", float):
                number = finite(value, name, owner, low=0, strict=name == "lr")
                if not isinstance(value, (int, float)):  # else a NumPy float32 would make schedules compute in float32
                    object.__setattr__(self, name, number)
            elif item.type in ("Rho", Rho) and (inner := as_schedule(value, owner)).remembers:
                raise ValueError(
                    f"{owner}: rho={value!r} is stateful, and {owner} would hide steps from it; put it outside: "
                    f"{type(inner).__name__}({owner}(...), ...)"
                )


Rho: TypeAlias = float | RhoSchedule
"""A radius: a number, or a schedule."""


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
    """A cached `Constant`, since it is needed for every group in every step."""
    return Constant(rho)


def radius(rho: Rho, info: StepInfo) -> Scalar:
    """The radius of a number or a schedule."""
    return rho(info) if isinstance(rho, RhoSchedule) else float(rho)


def minimum(a: float, b: Scalar) -> Scalar:
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
