"""The way up: which groups are perturbed in this step, along what, and how far."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress, repeat
from operator import is_not
from typing import Any

import torch
from torch import Tensor

from sharpmin.core.rho import RhoSchedule, Scalar, StepInfo

from ._ascent import Gradient
from ._geometry import L2
from ._groups import Active
from ._numeric.foreach import are_plain
from ._numeric.rounding import StochasticRounding
from ._numeric.shards import aligned, like, local, locals_of
from ._numeric.tensors import (
    any_low_precision,
    dense,
    displace,
    displace_all,
    inner,
    is_low_precision,
    largest,
    plain,
    times,
)
from ._protocols import Ascent, Context, Geometry, Metric, ParameterState
from ._scaling import Scaling, unscaled

Put = Callable[[Tensor, Tensor], None]
"""How a weight in half precision gets its move: weight, move."""


@dataclass
class PerturbedGroup:
    """A parameter group that takes part in the ascent of this step.

    Attributes:
        group: the group.
        schedule: of its radius.
        metric: the geometry at its weights, each once, and for the vectors to climb along, towards a growing loss.
        measure: the group's part of the dual norm.
        radius: how far.
    """

    group: dict[str, Any]
    schedule: RhoSchedule
    metric: Metric
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

    def move(self, total: Scalar, put: Put | None) -> None:
        """w += radius v, with the unit vector v of steepest ascent; `put` adds to half precision, None where there is none."""
        multiple, weights = self.metric.multiple(total), self.metric.weights
        if multiple is not None and not isinstance(self.radius, Tensor):
            displace_all(weights, self.metric.vectors, self.radius * multiple, put)
            return
        for w, v in zip(weights, self.metric.steepest(total), strict=True):
            (put or displace)(local(w), local(times(v, self.radius)))


@dataclass(frozen=True)
class Perturbation:
    """All perturbed groups of a step, with the norm that they share.

    Attributes:
        groups: see `PerturbedGroup`.
        geometry: the norm in which radii are measured.
        total: the sum of their measures.
        norm: the dual norm of all vectors.
        along_gradient: whether e is a multiple of the first gradient, if all groups have one radius.
    """

    groups: Sequence[PerturbedGroup]
    geometry: Geometry
    total: Scalar
    norm: Scalar
    along_gradient: bool

    @classmethod
    def of(cls, groups: Sequence[PerturbedGroup], geometry: Geometry, ascent: Ascent, step: int) -> Perturbation:
        """Measure, then ask every schedule for its radius."""
        for group in groups:
            group.measure = group.metric.measure()
        total = add([group.measure for group in groups])
        norm = geometry.dual_norm(total)
        for group in groups:
            group.ask(step, norm)
        return cls(groups, geometry, total, norm, isinstance(geometry, L2) and isinstance(ascent, Gradient))

    @cached_property
    def exact(self) -> bool:
        """Whether e is what was asked for, up to the last digit: one radius, and no coarse format to round it."""
        radii = [group.radius for group in self.groups]
        mixed = len(radii) > 1 and (any(isinstance(r, Tensor) for r in radii) or len(set(radii)) > 1)
        return not mixed and not self.low and self.plain

    @cached_property
    def plain(self) -> bool:
        """Whether no weight has operations of its own, which may round, at random even: int8 weights."""
        return are_plain(locals_of(self.weights))

    @cached_property
    def low(self) -> bool:
        """Whether a weight is float16 or bfloat16."""
        return any_low_precision(self.weights)

    @cached_property
    def weights(self) -> list[Tensor]:
        """All weights that are perturbed."""
        return [w for group in self.groups for w in group.metric.weights]

    @property
    def is_multiple_of_gradient(self) -> bool:
        """Whether e is radius / norm times the first gradient of every parameter that has one."""
        return self.along_gradient and self.exact

    @property
    def may_move(self) -> bool:
        """Whether anything moves, as far as the host knows; a non-finite norm moves nothing."""
        somewhere = any(group.may_move for group in self.groups)
        return somewhere and (isinstance(self.norm, Tensor) or 0 < self.norm < math.inf)

    @property
    def asked(self) -> dict[str, Scalar]:
        """What `opt.last` tells of it before anything has moved."""
        return {"dual_norm": self.norm, "rho": largest([g.radius for g in self.groups])} if self.groups else {}

    def move(self, rounding: StochasticRounding | None) -> None:
        """Move the weights to w + e."""
        put = None if not self.low else displace if rounding is None else rounding.displace
        for group in self.groups:
            group.move(self.total, put)
        torch.clear_autocast_cache()  # an autocast around both passes would go on with its copies of w

    def report(self, before: Sequence[Tensor]) -> dict[str, Scalar]:
        """Radius and gain; measured on the weights only where they can differ from what was asked for."""
        if self.exact:
            moved = _moved(self.norm)
            return {"radius": largest([group.radius for group in self.groups]) * moved, "gain": moved / moved}
        asked = add([group.radius * group.measure for group in self.groups]) * self.norm / self.total
        norms, gained, at = [], [], 0
        for group in self.groups:
            weights, vectors = group.metric.weights, group.metric.vectors
            own, at = before[at : at + len(weights)], at + len(weights)
            moves = [_difference(w, was) for w, was in zip(weights, own, strict=True)]
            norms.append(group.metric.norm([like(was, w) for w, was in zip(weights, own, strict=True)], moves))
            gained.append(inner(moves, [dense(a) for a in vectors]))
        return {"radius": self.geometry.joint(norms), "gain": _ratio(add(gained), asked)}


def perturbed_groups(
    active: Active, geometry: Geometry, ascent: Ascent, state: ParameterState, context: Context, scaling: Scaling | None
) -> tuple[list[PerturbedGroup], ParameterState]:
    """The groups that climb, with the vectors that the ascent makes of their gradients; and what it then remembers."""
    out = []
    for group, schedule in active:
        own = context.of(group)
        weights, grads = _with_gradients(distinct(group["params"]), needs_gradient=ascent.needs_clean)
        grads = list(aligned(grads, weights))
        if group.get("maximize"):
            grads = [None if g is None else -g for g in grads]
        if scaling is not None and not scaling.once:
            grads = unscaled(grads, scaling.scaler)
        vectors, state = ascent.update(weights, grads, state, own)
        moving = [a for a in vectors if a is not None]
        if len(moving) < len(weights):
            weights = [w for w, a in zip(weights, vectors, strict=True) if a is not None]
        out.append(PerturbedGroup(group, schedule, geometry.at(weights, moving, own)))
    return out, state


def _with_gradients(weights: Sequence[Tensor], *, needs_gradient: bool) -> tuple[Sequence[Tensor], list[Tensor | None]]:
    """The weights that can climb, each with its gradient: those that have one, or, where none is needed, may get one."""
    grads = [p.grad for p in weights]
    here = list(map(is_not, grads, repeat(None)) if needs_gradient else (p.requires_grad for p in weights))
    return (weights, grads) if all(here) else (list(compress(weights, here)), list(compress(grads, here)))


def distinct(parameters: Sequence[Tensor]) -> Sequence[Tensor]:
    """Each parameter once."""
    return parameters if len(set(map(id, parameters))) == len(parameters) else list(dict.fromkeys(parameters))


def _difference(w: Tensor, was: Tensor) -> Tensor:
    """The move that rounding left of the one that was asked for."""
    own, was = plain(local(w.detach())), plain(was)
    return like(own.float() - was.float() if is_low_precision(w) else own - was, w)


def add(values: Iterable[Scalar]) -> Scalar:
    """The sum of numbers that may lie on several devices, on the first of them."""
    values = list(values)
    first = next((v for v in values if isinstance(v, Tensor)), None)
    return sum((v.to(first) if isinstance(v, Tensor) and first is not None else v for v in values), 0.0)


def _moved(norm: Scalar) -> Scalar:
    """1 if the weights moved, else 0; only the device may know."""
    return ((norm > 0) & torch.isfinite(norm)).to(norm.dtype) if isinstance(norm, Tensor) else 1.0


def _ratio(part: Scalar, whole: Scalar) -> Scalar:
    return part / whole if isinstance(whole, Tensor) or whole > 0 else 1.0
