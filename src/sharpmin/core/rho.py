"""The perturbation radius over time: `rho_t`, in front of `e_t = rho_t * v_t` with `||v_t|| = 1`.

A schedule is called twice in a step. `active(step, lr)` comes before any norm is known: `False` promises the Python float
`0.0` whatever the gradient will be, so the second pass can be saved, and the group does not enter the norm that the
other groups share. The call itself comes after the first gradient, with its dual norm. The same code serves floats (on a
CPU), 0-dim tensors (on an accelerator, without a host sync) and NumPy arrays (`sharpmin.theory`).

| schedule | rho_t, with n the dual norm of the gradient | all the way? (deterministic, nonconvex) |
|---|---|---|
| `Constant(rho)` | rho | no: a floor of order rho^2 |
| `Cosine(rho, steps)` | rho (1 + cos(pi t / steps)) / 2, then 0 | yes |
| `InverseSqrt(rho)` | rho / sqrt(t + 1) | yes |
| `ProportionalToLR(rho, lr, power)` | rho (lr_t / lr)^power | if lr_t decays |
| `Every(rho, k)` | rho on every k-th step, else 0 | no |
| `Tail(rho, start)` | 0 before the step `start`, then rho | no: the floor of rho |
| `Ramp(rho, start, stop)` | 0 up to the step `start`, rho from `stop` on, on a line between | no: the floor of rho |
| `Until(rho, stop)` | rho before the step `stop`, then 0 | yes |
| `Unnormalized(rho)` | rho n | yes, if beta rho < 1 |
| `Capped(rho, c)` | min(rho, c n) | yes, if beta c < 1 |
| `Gate(rho, total)` | rho where n^2 is large against its running mean, else 0 | no |

Only `Gate` is stateful. It works in an optimizer, which stores its averages, and not in `sharpmin.theory`.
"""

from __future__ import annotations

import math
from dataclasses import InitVar, dataclass
from typing import TypeAlias

from ._gate import Gate
from ._numbers import COUNTABLE, finite, positive_integer, real
from ._schedule import Constant, Rho, RhoSchedule, Scalar, StepInfo, as_schedule
from ._schedule import minimum as _minimum
from ._schedule import radius as _radius

__all__ = [
    "COUNTABLE",
    "Capped",
    "Constant",
    "Cosine",
    "Every",
    "Gate",
    "InverseSqrt",
    "ProportionalToLR",
    "Ramp",
    "Rho",
    "RhoSchedule",
    "Scalar",
    "StepInfo",
    "Tail",
    "Unnormalized",
    "Until",
    "as_schedule",
    "finite",
    "positive_integer",
    "real",
]


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


Moment: TypeAlias = float
"""A step, which is an integer; or, with the steps of the run as `total`, a share of it."""


def _step(moment: Moment, total: int | None, name: str, owner: str) -> int:
    """The step, or with `total` the step at that share of it."""
    if total is None:
        return moment  # type: ignore[return-value]  # checked as every integer is
    share = finite(moment, name, owner, low=0)
    if share >= 1:
        raise ValueError(f"{owner}: {name}={moment!r} with total={total!r}; {name} must be a share of the steps, below 1")
    return max(1, round(share * positive_integer(total, "total", owner)))


@dataclass(frozen=True)
class Tail(RhoSchedule):
    """`rho` (a number or a schedule) from the step `start` on, and 0 before: a warm start with the base optimizer.

    A schedule inside is called with the step of the run, not with the steps since `start`. With `total`
    steps, `start` is a share of them.

    >>> [Tail(0.05, start=2)(StepInfo(step=t)) for t in range(4)]
    [0.0, 0.0, 0.05, 0.05]
    >>> Tail(0.05, start=0.1, total=10_000)
    Tail(rho=0.05, start=1000)
    """

    rho: Rho
    start: Moment
    total: InitVar[int | None] = None

    def __post_init__(self, total: int | None) -> None:
        object.__setattr__(self, "start", _step(self.start, total, "start", "Tail"))
        super().__post_init__()

    def __call__(self, info: StepInfo) -> Scalar:
        """The radius at `info.step`."""
        return _radius(self.rho, info) if info.step >= self.start else 0.0


@dataclass(frozen=True)
class Until(RhoSchedule):
    """`rho` (a number or a schedule) before the step `stop`, and 0 from then on: a late switch (statement R3).

    With `total` steps, `stop` is a share of them.

    >>> [Until(0.05, stop=2)(StepInfo(step=t)) for t in range(4)]
    [0.05, 0.05, 0.0, 0.0]
    >>> Until(0.05, stop=0.9, total=1000)
    Until(rho=0.05, stop=900)
    """

    rho: Rho
    stop: Moment
    total: InitVar[int | None] = None

    def __post_init__(self, total: int | None) -> None:
        object.__setattr__(self, "stop", _step(self.stop, total, "stop", "Until"))
        super().__post_init__()

    def __call__(self, info: StepInfo) -> Scalar:
        """The radius at `info.step`."""
        return _radius(self.rho, info) if info.step < self.stop else 0.0


@dataclass(frozen=True)
class Ramp(RhoSchedule):
    """`rho` (a number or a schedule) times a share that rises from 0 after the step `start` to 1 at the step `stop`.

    With `total` steps, `start` and `stop` are shares of them.

    Raises:
        ValueError: if `start` does not come before `stop`.

    >>> [Ramp(0.5, start=1, stop=3)(StepInfo(step=t)) for t in range(5)]
    [0.0, 0.0, 0.25, 0.5, 0.5]
    >>> Ramp(0.05, start=0.1, stop=0.2, total=1000)
    Ramp(rho=0.05, start=100, stop=200)
    """

    rho: Rho
    start: Moment
    stop: Moment
    total: InitVar[int | None] = None

    def __post_init__(self, total: int | None) -> None:
        for name in ("start", "stop"):
            object.__setattr__(self, name, _step(getattr(self, name), total, name, "Ramp"))
        super().__post_init__()
        if self.stop <= self.start:
            raise ValueError(f"Ramp: start={self.start!r}, stop={self.stop!r}; start must come before stop")

    def __call__(self, info: StepInfo) -> Scalar:
        """The radius at `info.step`."""
        if info.step <= self.start:
            return 0.0
        return _radius(self.rho, info) * min(1.0, (info.step - self.start) / (self.stop - self.start))


@dataclass(frozen=True)
class Unnormalized(RhoSchedule):
    """rho_t = rho n: SAM without normalization, e = rho g, which never divides by a norm (statement U1).

    >>> Unnormalized(0.5)(StepInfo(step=0, dual_norm=5.0))
    2.5
    """

    rho: Rho

    def __call__(self, info: StepInfo) -> Scalar:
        """The radius for the dual norm at hand."""
        return _radius(self.rho, info) * info.dual_norm


@dataclass(frozen=True)
class Capped(RhoSchedule):
    """rho_t = min(rho, c n): SAM far from stationarity, and SAM without normalization of strength `c` close to it.

    >>> [Capped(0.5, c=0.1)(StepInfo(step=0, dual_norm=n)) for n in (100.0, 1.0)]
    [0.5, 0.1]
    """

    rho: Rho
    c: float

    def __call__(self, info: StepInfo) -> Scalar:
        """The radius for the dual norm at hand."""
        return _minimum(_radius(self.rho, info), self.c * info.dual_norm)
