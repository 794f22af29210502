"""The way up: who climbs in this step, along what, and how far."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from sharpmin.core.rho import RhoSchedule, Scalar, StepInfo

from ._geometry import Geometry
from ._numeric.rounding import Dither
from ._numeric.shards import like, local
from ._numeric.tensors import any_low_precision, dense, displace, displace_all, inner, is_low_precision, largest, times

Put = Callable[[Tensor, Tensor], None]
"""How a weight in half precision gets its move: weight, move."""


@dataclass
class Climber:
    """A parameter group that takes part in the ascent of this step.

    Attributes:
        group: the group.
        schedule: of its radius.
        weights: each parameter once.
        vectors: what they climb along, in the direction of a growing loss.
        measure: the group's part of the dual norm.
        radius: how far.
    """

    group: dict[str, Any]
    schedule: RhoSchedule
    weights: Sequence[Tensor]
    vectors: list[Tensor]
    measure: Scalar = 0.0
    radius: Scalar = 0.0

    def ask(self, step: int, norm: Scalar) -> None:
        """Ask the schedule for the radius; where the norm is not finite, a radius that follows it is 0."""
        radius = self.schedule(StepInfo(step, self.group.get("lr", 0.0), norm, self.group))
        if not isinstance(norm, Tensor):
            radius = float(radius)  # the learning rate may be a tensor
        if isinstance(radius, Tensor):
            radius = torch.nan_to_num(radius, nan=0.0, posinf=0.0, neginf=0.0)
        elif not 0 <= radius < math.inf:
            if isinstance(norm, Tensor) or math.isfinite(norm):
                raise ValueError(
                    f"SAM: {self.schedule!r} gave the radius {radius!r} at step {step}; a radius must be finite and >= 0"
                )
            radius = 0.0
        self.radius = radius

    @property
    def may_move(self) -> bool:
        """Whether the radius is positive, as far as the host knows."""
        return isinstance(self.radius, Tensor) or self.radius > 0

    def move(self, geometry: Geometry, total: Scalar, put: Put | None) -> None:
        """w += radius v, with the unit vector v of steepest ascent; `put` adds to half precision, None where there is none."""
        multiple = geometry.multiple(total)
        if multiple is not None and not isinstance(self.radius, Tensor):
            displace_all(self.weights, self.vectors, self.radius * multiple, put)
            return
        for w, v in zip(self.weights, geometry.steepest(self.weights, self.vectors, total), strict=True):
            (put or displace)(local(w), local(times(v, self.radius)))


@dataclass(frozen=True)
class Ascension:
    """All climbers of a step, with the norm that they share."""

    climbers: Sequence[Climber]
    geometry: Geometry
    total: Scalar
    norm: Scalar

    @classmethod
    def of(cls, climbers: Sequence[Climber], geometry: Geometry, step: int) -> Ascension:
        """Measure, then ask every schedule for its radius."""
        for climber in climbers:
            climber.measure = geometry.measure(climber.weights, climber.vectors)
        total = add([climber.measure for climber in climbers])
        norm = geometry.dual_norm(total)
        for climber in climbers:
            climber.ask(step, norm)
        return cls(climbers, geometry, total, norm)

    @cached_property
    def exact(self) -> bool:
        """Whether e is what was asked for, up to the last digit: one radius, and no half precision to round it."""
        radii = [climber.radius for climber in self.climbers]
        mixed = len(radii) > 1 and (any(isinstance(r, Tensor) for r in radii) or len(set(radii)) > 1)
        return not mixed and not self.low

    @cached_property
    def low(self) -> bool:
        """Whether a weight is float16 or bfloat16."""
        return any_low_precision(self.weights)

    @cached_property
    def weights(self) -> list[Tensor]:
        """All weights that climb."""
        return [w for climber in self.climbers for w in climber.weights]

    @property
    def may_move(self) -> bool:
        """Whether anything moves, as far as the host knows; a non-finite norm moves nothing."""
        somewhere = any(climber.may_move for climber in self.climbers)
        return somewhere and (isinstance(self.norm, Tensor) or 0 < self.norm < math.inf)

    def move(self, dither: Dither | None) -> None:
        """Move the weights to w + e."""
        put = None if not self.low else displace if dither is None else dither.displace
        for climber in self.climbers:
            climber.move(self.geometry, self.total, put)
        torch.clear_autocast_cache()  # an autocast around both passes would go on with its copies of w

    def report(self, before: Sequence[Tensor]) -> dict[str, Scalar]:
        """Radius and gain; measured on the weights only where they can differ from what was asked for."""
        weights = self.weights
        if self.exact:
            moved = _moved(self.norm)
            return {"radius": largest([climber.radius for climber in self.climbers]) * moved, "gain": moved / moved}
        moves = [_difference(w, was) for w, was in zip(weights, before, strict=True)]
        vectors = [dense(a) for climber in self.climbers for a in climber.vectors]
        asked = add([climber.radius * climber.measure for climber in self.climbers]) * self.norm / self.total
        before = [like(was, w) for w, was in zip(weights, before, strict=True)]
        return {"radius": self.geometry.norm(before, moves), "gain": _ratio(inner(moves, vectors), asked)}


def _difference(w: Tensor, was: Tensor) -> Tensor:
    """The move that rounding left of the one that was asked for."""
    own = local(w.detach())
    return like(own.float() - was.float() if is_low_precision(w) else own - was, w)


def add(values: Sequence[Scalar]) -> Scalar:
    """The sum of numbers that may lie on several devices, on the first of them."""
    first = next((v for v in values if isinstance(v, Tensor)), None)
    return sum((v.to(first) if isinstance(v, Tensor) and first is not None else v for v in values), 0.0)


def _moved(norm: Scalar) -> Scalar:
    """1 if the weights moved, else 0; only the device may know."""
    return ((norm > 0) & torch.isfinite(norm)).to(norm.dtype) if isinstance(norm, Tensor) else 1.0


def _ratio(part: Scalar, whole: Scalar) -> Scalar:
    return part / whole if isinstance(whole, Tensor) or whole > 0 else 1.0
