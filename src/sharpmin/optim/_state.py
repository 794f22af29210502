"""The mutable state of a SAM, one object per lifetime, so that forgetting is assigning a new one.

| object | born | dies | holds |
|---|---|---|---|
| `Memory` | with the optimizer | with it | what survives a step: buffers for backups, what ascent and descent remember |
| `FirstPass` | by `clean()` or a closure | by `perturb()` | where random numbers began, what ends its `no_sync()` |
| `Step` | by the first gradient of a step | by `base.step()`, `zero_grad()`, a load | what all its micro-batches have found |
| `Trip` | by `perturb()` | by `restore()` or `abort()` | the way back from w + e |

All of it is in one inner object, `State`, so that wrappers which re-class or proxy the optimizer share it instead of copying
it; and it knows nothing of the optimizer, so that one that is lost while its weights are perturbed can be brought back.
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
    """Where a SAM step stands."""

    CLEAN = "clean"  # weights are w; the first gradient is being computed
    PERTURBED = "perturbed"  # weights are w + e
    READY = "ready"  # weights are w again, the gradient to step with is in place


class Outcome(Enum):
    """What the first gradients come to, decided between the passes by `outcome_of`."""

    ONLY_PASS = "the ascent needs no first pass: the weights move if they can, and the pass counts"
    CLIMB = "the weights move, and the second pass counts"
    REST = "nothing moves; if a second pass runs all the same, it counts"
    SKIP = "a first gradient is not finite: nothing moves, and the step changes nothing"
    JOIN = "nothing moves here, but other ranks may climb: the second pass counts"
    SPOIL = "not finite here, and other ranks must learn of it by the second pass, which counts"

    @property
    def needs_second(self) -> bool:
        """Whether the step is not complete without another pass."""
        return self not in (Outcome.REST, Outcome.SKIP)


def outcome_of(*, needs_clean: bool, finite: bool, moves: bool, all_ranks: bool) -> Outcome:
    """The outcome, from what is known between the passes.

    Args:
        needs_clean: whether the ascent needs this step's first gradient.
        finite: whether the first gradients are, as far as the host knows.
        moves: whether some weight will move, as far as the host knows.
        all_ranks: whether other ranks may climb where this one does not, so that all must make the second pass.
    """
    if not needs_clean:
        return Outcome.ONLY_PASS
    if not finite:
        return Outcome.SPOIL if all_ranks else Outcome.SKIP
    if moves:
        return Outcome.CLIMB
    return Outcome.JOIN if all_ranks else Outcome.REST


@dataclass
class Memory:
    """What outlives a step.

    Attributes:
        backup: where copies of CPU weights are made.
        lines: scratch memory.
        ascent, descent: what they remember of the steps taken.
        warned: the kinds of warnings that have been given.
        ddp_searched: whether a first pass has been searched for a model in DDP that SAM was not given.
        unstepped: second passes in a row whose gradient nobody stepped with.
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
        inside: whether it is being made, and its gradient stays apart.
        open: whether the block around it is open.
        end_no_sync: ends the `no_sync()` that `step(closure)` holds over it.
        before: copies of what micro-batches had accumulated, where the first pass, which may be the only one, adds to it.
    """

    random: RandomState | None = None
    inside: bool = False
    open: bool = False
    end_no_sync: Callable[[], None] | None = None
    before: Pairs | None = None


@dataclass
class Step:
    """What the micro-batches of one step have found so far.

    Attributes:
        ready: whether the gradient to step with is in place.
        second: whether a second pass made it.
        missing: whether a second pass that was needed has left no gradient.
        accumulated: the gradients of the micro-batches before this one, held while this one has its own two passes.
        nonfinite: a first gradient held an inf or a nan, so the step must change nothing.
        norms: the sum of the dual norms of the micro-batches, where only the device knows them.
        overflow: the flags of the loss scaler in scope "rank", the same on all ranks.
        finite: gradients that are known to be finite, each with the count of the writes to it.
        climbs: the ascents so far, which seed stochastic rounding.
        ascent, descent: what they will remember if this step is taken.
        gated: the groups whose schedule of rho remembers, each with the numbers that it will keep if this step is taken.
        scaling: the loss scaling of this step, if any.
        curved: curvature along e and ||G - g|| / ||e||, where the products of what a watcher sees do not say them.
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
    """One way to w + e and back.

    Attributes:
        outcome: what the first gradients came to.
        first: the first gradients, kept for whoever needs them after the second pass; None if nobody does.
        start: the gradients that the second pass began with, each with the count of the writes to it.
        hooked: weights with a hook of the backward pass, which must not step.
        in_place: whether it adds to what earlier micro-batches have accumulated, as DDP needs it.
        held: the parameters that were perturbed, and the w of each; one value, so that an interrupt sees both or none.
        undo: what puts buffers, random states, gradients of other parameters and hooks back.
        is_multiple_of_gradient: whether e is a known multiple of the first gradient of every parameter that has one.
    """

    outcome: Outcome
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
        else:  # a device has a caching allocator, and no memory to spare between the steps
            copies = clone_all(own)
        self.held = weights, copies

    def come_back(self) -> None:
        """Put every perturbed weight back, bit for bit, at its address, then all else. Interrupted, it can be called again."""
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
        """Whether the second pass has left a gradient."""
        if not self.start:
            return bool(now)
        return {(id(g), g._version) for _, g in now} != {(id(g), version) for g, version in self.start}


@dataclass
class State:
    """The four, and the raw numbers of `opt.last`."""

    memory: Memory = field(default_factory=Memory)
    first: FirstPass = field(default_factory=FirstPass)
    step: Step = field(default_factory=Step)
    trip: Trip | None = None
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def phase(self) -> Phase:
        """Where the step stands."""
        return Phase.PERTURBED if self.trip is not None else Phase.READY if self.step.ready else Phase.CLEAN

    def begin(self, *, more: bool) -> Step:
        """Start a step; with `more`, go on to the next micro-batch of this one."""
        accumulated = self.step.accumulated
        self.step = replace(self.step, ready=False, scaling=None, curved={}) if more else Step(accumulated=accumulated)
        self.record = {"passes": 1}
        return self.step

    def come_back(self) -> None:
        """Bring the weights back; whoever holds this state, also after its optimizer is gone."""
        if self.trip is not None:
            self.trip.come_back()
        guard.unmark(self)

    def rescue(self) -> None:
        """Bring back the weights of an optimizer that was lost while they were perturbed, and give its step up."""
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
            p.grad = None  # half-made

    def forget_step(self) -> None:
        """The step is over; its record stays."""
        self.step, self.first.random, self.first.before = Step(), None, None

    def drop_step(self) -> None:
        """The gradients were cleared: what was noted of the step is void, but for the first pass that is being made."""
        first, scaling = self.first, self.step.scaling
        self.step = Step(accumulated=[] if first.inside else None)
        first.before = None if first.before is None else []
        if not (first.open or first.inside):
            first.random = None
        if scaling is not None:
            scaling.forget()

    def leave_out(self) -> None:
        """Forget a step that is not taken."""
        self.record = {"passes": 1, "stepped": False}
        self.forget_step()

    def give_up(self) -> None:
        """Forget a step that failed; its weights are w."""
        scaling, self.trip = self.step.scaling, None
        self.leave_out()
        if scaling is not None:
            scaling.forget()

    def __getstate__(self) -> dict[str, Any]:
        step = replace(self.step, scaling=None, finite=[])  # not for a copy: they belong to somebody else
        return {**self.__dict__, "step": step, "first": FirstPass(self.first.random)}


def require_unperturbed(state: State, call: str) -> None:
    """Raise `PhaseError` if the weights are perturbed."""
    if state.trip is not None:
        raise PhaseError(
            f"{call} came while the weights are perturbed (w + e); leave the perturbed() block, or call restore(), first; "
            "after an exception, abort()"
        )
