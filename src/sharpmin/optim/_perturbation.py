"""The perturbation of a step: which groups are perturbed, along which vectors, and how far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import compress, repeat
from operator import is_not
from typing import Any

import torch
from torch import Tensor

from sharpmin.core.rho import RhoSchedule, Scalar, StepInfo

from ._ascent import Gradient
from ._geometry import L2
from ._groups import Active, memory_of
from ._numeric.kinds import Fixed, any_low_precision, are_plain, dense, plain
from ._numeric.lines import Lines
from ._numeric.rounding import StochasticRounding
from ._numeric.shards import aligned, like, locals_of
from ._numeric.sums import add, inner, largest, present
from ._numeric.tensors import add_all, differences, negated, on_present
from ._protocols import Ascent, Context, Geometry, Metric, ParameterState
from ._scaling import Scaling, unscaled


@dataclass
class PerturbedGroup:
    """A parameter group that takes part in the ascent of this step.

    Attributes:
        group: the group.
        schedule: gives its radius.
        metric: the geometry at its weights, each once, and for the vectors to climb along, whose sign makes the loss grow.
        measure: the group's part of the dual norm.
        radius: the length of the perturbation.
        memory: the numbers that the schedule will remember if this step is taken.
    """

    group: dict[str, Any]
    schedule: RhoSchedule
    metric: Metric
    measure: Scalar = 0.0
    radius: Scalar = 0.0
    memory: dict[str, float] = field(default_factory=dict)

    def ask(self, step: int, norm: Scalar) -> None:
        """Get the radius from the schedule; a radius that depends on a non-finite norm is 0."""
        info = StepInfo(step, self.group.get("lr", 0.0), norm, self.group)
        if self.schedule.remembers:
            info = replace(info, dual_norm=float(norm), memory=memory_of(self.group, self.schedule))  # a device is read here
            self.memory = self.schedule.remember(info)
        radius = self.schedule(info)
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
        """Whether the radius is positive; True if only the device knows."""
        return isinstance(self.radius, Tensor) or self.radius > 0

    def move(self, total: Scalar, rounding: StochasticRounding | None, lines: Lines) -> None:
        """w += radius v, with the unit vector v of steepest ascent; `lines` is scratch memory."""
        for weights, vectors, factor in self.metric.parts(total):
            add_all(weights, vectors, self.radius * factor, rounding, lines)


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
        """Measure the dual norm, then get every radius from its schedule."""
        for group in groups:
            group.measure = group.metric.measure()
        total = add([group.measure for group in groups])
        norm = geometry.dual_norm(total)
        for group in groups:
            group.ask(step, norm)
        return cls(groups, geometry, total, norm, isinstance(geometry, L2) and isinstance(ascent, Gradient))

    @property
    def exact(self) -> bool:
        """Whether e is not rounded coarsely: no weight is float16, bfloat16 or of a type with its own operations."""
        return not self.low and self.plain

    @cached_property
    def one_radius(self) -> bool:
        """Whether all groups are known to have the same radius."""
        radii = [group.radius for group in self.groups]
        return len(radii) == 1 or not (any(isinstance(r, Tensor) for r in radii) or len(set(radii)) > 1)

    @cached_property
    def plain(self) -> bool:
        """Whether no weight is a tensor subclass that rounds by itself, such as int8 weights."""
        return are_plain(locals_of(self.weights))

    @cached_property
    def low(self) -> bool:
        """Whether a weight is float16 or bfloat16."""
        return any_low_precision(self.weights)

    @cached_property
    def weights(self) -> Sequence[Tensor]:
        """All weights that are perturbed."""
        if len(self.groups) == 1:
            return self.groups[0].metric.weights
        return Fixed(w for group in self.groups for w in group.metric.weights)

    @property
    def is_multiple_of_gradient(self) -> bool:
        """Whether e is radius / norm times the first gradient of every parameter that has one."""
        return self.along_gradient and self.exact and self.one_radius

    @property
    def may_move(self) -> bool:
        """Whether a weight moves; True if only the device knows. A non-finite norm moves nothing."""
        somewhere = any(group.may_move for group in self.groups)
        return somewhere and (isinstance(self.norm, Tensor) or 0 < self.norm < math.inf)

    @property
    def asked(self) -> dict[str, Scalar]:
        """The entries of `opt.last` that are known before the weights move."""
        return {"dual_norm": self.norm, "rho": largest([g.radius for g in self.groups])} if self.groups else {}

    def move(self, rounding: StochasticRounding | None, lines: Lines) -> None:
        """Move the weights to w + e."""
        for group in self.groups:
            group.move(self.total, rounding, lines)
        lines.release()
        torch.clear_autocast_cache()  # else an autocast around both passes would reuse its cached copies of w

    def report(self, before: Sequence[Tensor], *, measure: bool) -> dict[str, Any]:
        """Radius and gain: measured if `measure` and rounding can change them, else those that were asked for."""
        if measure and not self.exact:
            return {**self._measured(before), "measured": True}
        moved = present(self.norm)
        if self.one_radius:
            radius = largest([group.radius for group in self.groups])
        else:
            radius = self.geometry.joint([g.radius * self.geometry.share(g.measure, self.total) for g in self.groups])
        if isinstance(radius, Tensor):
            radius = radius.nan_to_num(nan=0.0)  # 0 / 0 where nothing moved
        return {"radius": radius * moved, "gain": moved / moved if self.exact else None, "measured": False}

    def _measured(self, before: Sequence[Tensor]) -> dict[str, Scalar]:
        asked = add([group.radius * group.measure for group in self.groups]) * self.norm / self.total
        norms, gained, at = [], [], 0
        for group in self.groups:
            weights, vectors = group.metric.weights, group.metric.vectors
            own, at = before[at : at + len(weights)], at + len(weights)
            moves = moved_by(weights, own)
            norms.append(group.metric.norm([like(was, w) for w, was in zip(weights, own, strict=True)], moves))
            gained.append(inner(moves, [dense(a) for a in vectors]))
        return {"radius": self.geometry.joint(norms), "gain": _ratio(add(gained), asked)}


def perturbed_groups(
    active: Active, geometry: Geometry, ascent: Ascent, state: ParameterState, context: Context, scaling: Scaling | None
) -> tuple[list[PerturbedGroup], ParameterState]:
    """The perturbed groups, with the vectors of the ascent, and the ascent's next state."""
    out = []
    for group, schedule in active:
        own = context.of(group)
        weights, grads = _with_gradients(distinct(group["params"]), needs_gradient=ascent.needs_clean)
        grads = list(aligned(grads, weights))
        if group.get("maximize"):
            grads = on_present(negated, grads)
        if scaling is not None and not scaling.once:
            grads = unscaled(grads, scaling.scaler)
        vectors, state = ascent.update(weights, grads, state, own)
        moving = [a for a in vectors if a is not None]
        weights = [w for w, a in zip(weights, vectors, strict=True) if a is not None]
        out.append(PerturbedGroup(group, schedule, geometry.at(Fixed(weights), Fixed(moving), own)))
    return out, state


def _with_gradients(weights: Sequence[Tensor], *, needs_gradient: bool) -> tuple[Sequence[Tensor], list[Tensor | None]]:
    """The weights to perturb, each with its gradient: those with a gradient, or all trainable ones if none is needed."""
    grads = [p.grad for p in weights]
    here = list(map(is_not, grads, repeat(None)) if needs_gradient else (p.requires_grad for p in weights))
    return (weights, grads) if all(here) else (list(compress(weights, here)), list(compress(grads, here)))


def distinct(parameters: Sequence[Tensor]) -> Sequence[Tensor]:
    """The parameters without repetitions."""
    return parameters if len(set(map(id, parameters))) == len(parameters) else list(dict.fromkeys(parameters))


def moved_by(weights: Sequence[Tensor], before: Sequence[Tensor]) -> list[Tensor]:
    """The realized move of the weights, in float32 at least; `before` holds the old values (the shards of this rank)."""
    now = list(map(plain, locals_of(weights)))
    moves = differences(now, list(map(plain, before)))
    return [like(move, w) for move, w in zip(moves, weights, strict=True)]


def _ratio(part: Scalar, whole: Scalar) -> Scalar:
    return part / whole if isinstance(whole, Tensor) or whole > 0 else 1.0
