"""One SAM step's worth of mutable state: where the weights are, and the way back.

All of it lives in one inner object, so that wrappers which re-class or proxy the optimizer share it instead of copying it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn

from sharpmin.core.rho import RhoSchedule, Scalar, StepInfo

from ._guard import release
from .buffers import BufferFilter, Buffers
from .geometry import Geometry
from .rng import RandomState
from .scaling import Scaling
from .tensors import displace, inner, is_low_precision, sum_of_squares


class Phase(Enum):
    """Where a SAM step stands."""

    CLEAN = "clean"  # weights are w; the first gradient is being computed
    PERTURBED = "perturbed"  # weights are w + e
    READY = "ready"  # weights are w again, the gradient at w + e is in place


@dataclass
class Climber:
    """A parameter group that takes part in the ascent of this step."""

    group: dict[str, Any]
    schedule: RhoSchedule
    weights: list[Tensor]
    grads: list[Tensor]  # of the loss: the sign is turned where the base maximizes
    radius: Scalar = 0.0

    @classmethod
    def of(cls, group: dict[str, Any], schedule: RhoSchedule) -> Climber:
        """What has a gradient in `group`, each parameter once."""
        weights = list(dict.fromkeys(p for p in group["params"] if p.grad is not None))
        return cls(group, schedule, weights, [-p.grad if group.get("maximize") else p.grad for p in weights])

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


@dataclass
class Cycle:
    """The state of one step.

    Attributes:
        phase: see `Phase`.
        backup: w of everything that was perturbed, keyed by the parameter itself.
        kept: the first gradients, held only when the second pass must not count (nothing was perturbed).
        nonfinite: the first gradient held an inf or a nan, so the step must change nothing.
        record: the raw numbers of `opt.last`.
        steps: the steps taken, for groups that were put in place of the ones which carried the count.
        clean_random: the random state at the start of the first pass, for the second to start from.
        undo: what puts buffers, random states and hooks back when the second pass is over.
        scaling: the loss scaling of this step, if any.
    """

    phase: Phase = Phase.CLEAN
    backup: dict[Tensor, Tensor] = field(default_factory=dict)
    kept: list[tuple[Tensor, Tensor]] | None = None
    nonfinite: bool = False
    record: dict[str, Any] = field(default_factory=dict)
    steps: int = 0
    clean_random: RandomState | None = None
    undo: list[Callable[[], None]] = field(default_factory=list)
    scaling: Scaling | None = None

    def begin(self, **record: Any) -> None:
        """Start a step: forget the last one."""
        self.phase, self.kept, self.nonfinite, self.scaling = Phase.CLEAN, None, False, None
        self.record = {"passes": 1, **record}

    def set_aside(
        self, parameters: Iterable[Tensor], model: nn.Module | None, keep: BufferFilter | None, refuse: Callable[[], None]
    ) -> None:
        """Remember what the second pass must not change, and start it from the random state of the first."""
        start, self.clean_random = self.clean_random, None
        if start is not None or self.kept is not None:
            self.undo.append(RandomState(parameters).put_back)
        if model is not None:
            self.undo.append(Buffers(model, keep).put_back)
            hook: Any = model.register_state_dict_pre_hook  # untyped in torch
            self.undo.append(hook(lambda *_: refuse()).remove)
        if start is not None:
            start.put_back()

    def climb(self, climbers: Sequence[Climber], geometry: Geometry, total: Scalar) -> None:
        """Move the weights to w + e. `backup` is complete before the first one moves."""
        norm = geometry.dual_norm(total)
        radii = [climber.radius for climber in climbers]
        rounded = any(is_low_precision(w) for climber in climbers for w in climber.weights)
        measured = rounded or (len(radii) > 1 and (any(isinstance(r, Tensor) for r in radii) or len(set(radii)) > 1))
        asked: Scalar = 0.0
        for climber in climbers:
            self.backup.update((w, w.detach().clone()) for w in climber.weights)
        for climber in climbers:
            directions = geometry.steepest(climber.weights, climber.grads, total)
            for w, g, v in zip(climber.weights, climber.grads, directions, strict=True):
                if measured:
                    asked = asked + climber.radius * inner([v.to_dense()], [g.to_dense()])
                displace(w, v, climber.radius)
        torch.clear_autocast_cache()  # an autocast around both passes would go on with its copies of w
        moved = _moved(norm)
        self.record |= {"radius": self.record["rho"] * moved, "gain": moved / moved}
        if measured:
            grads = [g for climber in climbers for g in climber.grads]
            moves = [_difference(w, was) for w, was in self.backup.items()]
            gained = inner(moves, [g.to_dense() for g in grads])
            self.record |= {"radius": sum_of_squares(moves) ** 0.5, "gain": _ratio(gained, asked)}

    def come_back(self) -> None:
        """Put every perturbed weight back, bit for bit, at its address, then all else. Interrupted, it can be called again."""
        with torch.no_grad():
            for w, was in self.backup.items():
                w.copy_(was)
        if self.backup:
            torch.clear_autocast_cache()
        self.backup.clear()
        while self.undo:
            self.undo[-1]()
            self.undo.pop()
        release(self)


def _difference(w: Tensor, was: Tensor) -> Tensor:
    """The move that rounding left of the one that was asked for."""
    return w.float() - was.float() if is_low_precision(w) else w.detach() - was


def largest(radii: Sequence[Scalar]) -> Scalar:
    """The largest radius, without a read from the device."""
    tensors = [r for r in radii if isinstance(r, Tensor)]
    if not tensors or len(radii) == 1:
        return max(radii)
    like = tensors[0].double()
    return torch.stack([r.to(like) if isinstance(r, Tensor) else torch.full_like(like, r) for r in radii]).max()


def _moved(norm: Scalar) -> Scalar:
    """1 if the weights moved, else 0; only the device may know."""
    return ((norm > 0) & torch.isfinite(norm)).to(norm.dtype) if isinstance(norm, Tensor) else 1.0


def _ratio(part: Scalar, whole: Scalar) -> Scalar:
    return part / whole if isinstance(whole, Tensor) or whole > 0 else 1.0
