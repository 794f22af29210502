"""The mutable state of a SAM, one object per lifetime, so that a reset is the assignment of a new object.

| object | born | dies | holds |
|---|---|---|---|
| `Memory` | with the optimizer | with it | what survives a step: buffers for backups, what ascent and descent remember |
| `FirstPass` | by `clean()` or a closure | by `perturb()` | the random state at its start, what ends its `no_sync()` |
| `Step` | by the first gradient of a step | by `base.step()`, `zero_grad()`, a load | what its micro-batches have accumulated |
| `Trip` | by `perturb()` | by `restore()` or `abort()` | all that is needed to return from w + e |

All of it is in one inner object, `SAMState`, so that wrappers which re-class or proxy the optimizer share it instead of copying
it; and it holds no reference to the optimizer, so that the weights can be restored after the optimizer was garbage-collected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

import torch
from torch import Tensor

from sharpmin.core.errors import PhaseError
from sharpmin.core.rho import Scalar

from ._effects import guard
from ._effects.hooks import Writes
from ._effects.rng import RandomState
from ._gradients import Pairs
from ._numeric.backup import BackupBuffers
from ._numeric.kinds import are_plain, on_host
from ._numeric.lines import Lines
from ._numeric.shards import local, locals_of
from ._numeric.tensors import clone_all, copy_all
from ._protocols import ParameterState
from ._scaling import Scaling


class Phase(Enum):
    """The phase of a SAM step."""

    CLEAN = "clean"  # weights are w; the first gradient is being computed
    PERTURBED = "perturbed"  # weights are w + e
    READY = "ready"  # weights are w again, the gradient to step with is in place


class StepOutcome(Enum):
    """What the step does after the first pass; decided by `outcome_of`."""

    ONLY_PASS = "the ascent needs no first pass: the weights move, and the step has one pass"
    CLIMB = "the weights move, and the second pass counts"
    REST = "nothing moves; a second pass is not needed, but is used if it runs"
    SKIP = "a first gradient is not finite: nothing moves, and the step changes nothing"
    JOIN = "nothing moves on this rank, but others may be perturbed: the second pass counts"
    SPOIL = "a first gradient of this rank is not finite, and other ranks learn of it by the second pass"

    @property
    def needs_second(self) -> bool:
        """Whether the step needs another pass."""
        return self not in (StepOutcome.REST, StepOutcome.SKIP)


def outcome_of(*, needs_clean: bool, finite: bool, moves: bool, all_ranks: bool) -> StepOutcome:
    """The outcome, as a function of what is known between the passes.

    Args:
        needs_clean: whether the ascent needs this step's first gradient.
        finite: whether the first gradients are finite; True if only the device knows.
        moves: whether some weight will move; True if only the device knows.
        all_ranks: whether other ranks may be perturbed when this one is not, so that all must make the second pass.
    """
    if not needs_clean:
        return StepOutcome.ONLY_PASS
    if not finite:
        return StepOutcome.SPOIL if all_ranks else StepOutcome.SKIP
    if moves:
        return StepOutcome.CLIMB
    return StepOutcome.JOIN if all_ranks else StepOutcome.REST


@dataclass
class Memory:
    """What is kept from step to step.

    Attributes:
        backup: buffers for the copies of CPU weights.
        lines: scratch memory.
        ascent, descent: their states.
        warned: the kinds of warnings that have been given.
        ddp_searched: whether a first pass was searched for a DDP model that was not given as `model=`.
        unstepped: second passes in a row without a step.
    """

    backup: BackupBuffers = field(default_factory=BackupBuffers)
    lines: Lines = field(default_factory=Lines)
    ascent: ParameterState = field(default_factory=dict)
    descent: ParameterState = field(default_factory=dict)
    warned: set[str] = field(default_factory=set)
    ddp_searched: bool = False
    unstepped: int = 0


@dataclass
class FirstPass:
    """The first pass of a step, or of one of its micro-batches.

    Attributes:
        random: the random state at its start, for the second pass to start from.
        inside: whether it is running, with its gradient kept apart.
        open: whether its `clean()` block is open.
        end_no_sync: ends the `no_sync()` that `step(closure)` holds over it.
        before: copies of the accumulated gradients, if the first pass, which may be the only one, adds to them.
    """

    random: RandomState | None = None
    inside: bool = False
    open: bool = False
    end_no_sync: Callable[[], None] | None = None
    before: Pairs | None = None


@dataclass
class Step:
    """What the micro-batches of one step have computed so far.

    Attributes:
        ready: whether the gradient to step with is in place.
        second: whether a second pass made it.
        missing: whether a needed second pass left no gradient.
        accumulated: the gradients of earlier micro-batches, set aside during the two passes of this one.
        nonfinite: a first gradient held an inf or a nan, so the step must change nothing.
        norms: the sum of the dual norms of the micro-batches, if only the device knows them.
        overflow: the flags of the loss scaler in scope "rank", the same on all ranks.
        finite: gradients that are known to be finite, each with the count of the writes to it.
        climbs: the perturbations so far, which seed stochastic rounding.
        ascent, descent: their next states, used if this step is taken.
        gated: the groups with a stateful schedule of rho, each with its next numbers, used if this step is taken.
        scaling: the loss scaling of this step, if any.
        curved: curvature along e and ||G - g|| / ||e||, if the products of the watchers' pair do not give them.
    """

    ready: bool = False
    second: bool = False
    missing: bool = False
    accumulated: Pairs | None = None
    nonfinite: bool = False
    norms: Scalar = 0.0
    overflow: list[Tensor] = field(default_factory=list)
    finite: list[tuple[Tensor, int]] = field(default_factory=list)
    climbs: int = 0
    ascent: ParameterState | None = None
    descent: ParameterState | None = None
    gated: list[tuple[dict[str, Any], dict[str, float]]] = field(default_factory=list)
    scaling: Scaling | None = None
    curved: dict[str, Scalar | None] = field(default_factory=dict)


@dataclass
class Trip:
    """What one perturbation needs to return from w + e.

    Attributes:
        outcome: that of the first gradients.
        first: the first gradients, kept if they are needed after the second pass; else None.
        start: the gradients at the start of the second pass, each with its count of writes.
        hooked: weights with a hook of the backward pass, which must not step.
        in_place: whether the second pass adds to the accumulated gradients, as DDP needs it.
        held: the perturbed parameters and their values at w; one tuple, so that an interrupt sees both or none.
        undo: functions that restore buffers, random states, gradients of other parameters and hooks.
        is_multiple_of_gradient: whether e is a known multiple of the first gradient of every parameter that has one.
    """

    outcome: StepOutcome
    first: Pairs | None = None
    start: list[tuple[Tensor, int]] = field(default_factory=list)
    hooked: Writes = field(default_factory=list)
    in_place: bool = False
    held: tuple[Sequence[Tensor], Sequence[Tensor]] = ((), ())
    undo: list[Callable[[], None]] = field(default_factory=list)
    is_multiple_of_gradient: bool = False

    def back_up(self, weights: Sequence[Tensor], parameters: Iterable[Tensor], buffers: BackupBuffers) -> None:
        """Copy w; complete before the first weight moves. `parameters` are all that the optimizer has."""
        own = locals_of(weights)
        if on_host(own) and are_plain(own):
            copies = buffers.like(own, map(local, parameters))
            copy_all(copies, own)
        else:  # a device has a caching allocator: nothing is kept there between the steps
            copies = clone_all(own)
        self.held = weights, copies

    def come_back(self) -> None:
        """Copy w back into every perturbed weight, then restore all else; after an interrupt it can be called again."""
        weights, before = self.held
        if weights:
            with torch.no_grad():
                copy_all(weights, before)
            torch.clear_autocast_cache()
        self.held = (), ()
        while self.undo:
            self.undo[-1]()
            self.undo.pop()

    def second_ran(self, now: Pairs) -> bool:
        """Whether the second pass left a gradient."""
        if not self.start:
            return bool(now)
        return {(id(g), g._version) for _, g in now} != {(id(g), version) for g, version in self.start}


@dataclass
class SAMState:
    """The objects of all lifetimes, and the raw numbers of `opt.last`."""

    memory: Memory = field(default_factory=Memory)
    first: FirstPass = field(default_factory=FirstPass)
    step: Step = field(default_factory=Step)
    trip: Trip | None = None
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def phase(self) -> Phase:
        """The phase, derived from `trip` and `step`."""
        return Phase.PERTURBED if self.trip is not None else Phase.READY if self.step.ready else Phase.CLEAN

    def begin(self, *, more: bool) -> Step:
        """Start a step, or with `more` the next micro-batch of this step."""
        accumulated = self.step.accumulated
        self.step = replace(self.step, ready=False, scaling=None, curved={}) if more else Step(accumulated=accumulated)
        self.record = {"passes": 1}
        return self.step

    def come_back(self) -> None:
        """Restore the weights; works also after the optimizer was garbage-collected."""
        if self.trip is not None:
            self.trip.come_back()
        guard.unmark(self)

    def rescue(self) -> None:
        """Restore the weights of an optimizer that was lost while they were perturbed, and abort its step."""
        if (trip := self.trip) is None:
            return
        perturbed, _ = trip.held
        try:
            self.come_back()
        except BaseException:  # a second interrupt
            self.come_back()
            raise
        self.give_up()
        for p in perturbed:
            p.grad = None  # gradients of an unfinished second pass

    def forget_step(self) -> None:
        """Forget the step after it was taken; its record stays."""
        self.step, self.first.random, self.first.before = Step(), None, None

    def drop_step(self) -> None:
        """Forget the step after its gradients were cleared, but keep a first pass that is running."""
        first, scaling = self.first, self.step.scaling
        self.step = Step(accumulated=[] if first.inside else None)
        first.before = None if first.before is None else []
        if not (first.open or first.inside):
            first.random = None
        if scaling is not None:
            scaling.forget()

    def leave_out(self) -> None:
        """Forget a skipped step."""
        self.record = {"passes": 1, "stepped": False}
        self.forget_step()

    def give_up(self) -> None:
        """Forget a failed step whose weights are w."""
        scaling, self.trip = self.step.scaling, None
        self.leave_out()
        if scaling is not None:
            scaling.forget()

    def __getstate__(self) -> dict[str, Any]:
        step = replace(self.step, scaling=None, finite=[])  # a copy has no trip: the perturbed weights are the original's
        return {**self.__dict__, "step": step, "first": FirstPass(self.first.random)}


def require_unperturbed(state: SAMState, call: str) -> None:
    """Raise `PhaseError` if the weights are perturbed."""
    if state.trip is not None:
        raise PhaseError(
            f"{call} came while the weights are perturbed (w + e); leave the perturbed() block, or call restore(), first; "
            "after an exception, abort()"
        )
