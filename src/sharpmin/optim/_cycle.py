"""One SAM step's worth of mutable state: where the weights are, and the way back.

All of it lives in one inner object, so that wrappers which re-class or proxy the optimizer share it instead of copying it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn

from sharpmin.core.rho import Scalar

from ._ascent import State
from ._effects.buffers import BufferFilter, Buffers
from ._effects.guard import release
from ._effects.rng import RandomState
from ._numeric.backup import Pool
from ._numeric.shards import local, locals_of
from ._numeric.tensors import copy_all, on_host
from ._scaling import Scaling

Pairs = list[tuple[Tensor, Tensor]]
"""Parameters, each with a tensor of its shape: its gradient, or its w."""


class Phase(Enum):
    """Where a SAM step stands."""

    CLEAN = "clean"  # weights are w; the first gradient is being computed
    PERTURBED = "perturbed"  # weights are w + e
    READY = "ready"  # weights are w again, the gradient at w + e is in place


@dataclass
class Cycle:
    """The state of one step.

    Attributes:
        phase: see `Phase`.
        backup: every parameter that was perturbed, with its w.
        pool: where backups of CPU weights are made, kept from step to step: fresh pages cost six times the copy.
        kept: the first gradients, held only when the second pass must not count (nothing was perturbed).
        clean: the first gradients, held only when the descent needs them.
        earlier: what the micro-batches before this one have accumulated, held while this one has its own two passes.
        overflow: the flags of the loss scaler in scope "rank", the same on all ranks.
        onto: whether the second pass adds to what earlier micro-batches have accumulated, as DDP needs it.
        inside: whether the first pass of a micro-batch is being made.
        looked: whether the first pass has been searched for a model in DDP that SAM was not given.
        reduce_again: ends the `no_sync()` that `step(closure)` holds over the first pass in scope "rank".
        norms: the sum of the dual norms of the micro-batches, where only the device knows them.
        nonfinite: a first gradient held an inf or a nan, so the step must change nothing.
        finite: gradients that are known to be finite, each with the count of the writes to it.
        record: the raw numbers of `opt.last`.
        curved: curvature along e and ||G - g|| / ||e||, where the products of what a watcher sees do not say them.
        steps: the steps taken, for groups that were put in place of the ones which carried the count.
        climbs: the ascents since the last step, which seed the dither.
        clean_random: the random state at the start of the first pass, for the second to start from.
        undo: what puts buffers, random states and hooks back when the second pass is over.
        scaling: the loss scaling of this step, if any.
        ascent: what the ascent remembers of the steps taken; `proposed`: what it will, if this one is taken.
        plain: whether e is a known multiple of the first gradient of every parameter that has one.
        warned: whether the loss of ascent to rounding has been reported.
    """

    phase: Phase = Phase.CLEAN
    backup: Pairs = field(default_factory=list)
    pool: Pool = field(default_factory=Pool)
    kept: Pairs | None = None
    clean: Pairs | None = None
    earlier: Pairs | None = None
    overflow: list[Tensor] = field(default_factory=list)
    onto: bool = False
    inside: bool = False
    looked: bool = False
    reduce_again: Callable[[], None] | None = None
    norms: Scalar = 0.0
    nonfinite: bool = False
    finite: list[tuple[Tensor, int]] = field(default_factory=list)
    record: dict[str, Any] = field(default_factory=dict)
    curved: dict[str, Scalar | None] = field(default_factory=dict)
    steps: int = 0
    climbs: int = 0
    clean_random: RandomState | None = None
    undo: list[Callable[[], None]] = field(default_factory=list)
    scaling: Scaling | None = None
    ascent: State = field(default_factory=dict)
    proposed: State | None = None
    plain: bool = False
    warned: bool = False

    def begin(self, *, more: bool = False) -> None:
        """Start a step and forget the last one; with `more`, go on to the next micro-batch of this one."""
        if not more:
            self.forget()
        self.phase, self.kept, self.clean, self.scaling = Phase.CLEAN, None, None, None
        self.record, self.curved = {"passes": 1}, {}

    def forget(self) -> None:
        """What the micro-batches so far have left for the end of the step."""
        self.nonfinite, self.climbs, self.proposed, self.overflow, self.norms = False, 0, None, [], 0.0
        self.finite = []

    def set_aside(
        self,
        parameters: Iterable[Tensor],
        model: nn.Module | None,
        keep: BufferFilter | None,
        refuse: Callable[[], None],
        *,
        only_pass: bool,
    ) -> None:
        """Remember what the second pass must not change, and start it from the random state of the first.

        The only pass of a step moves buffers and random states like any other.
        """
        start, self.clean_random = self.clean_random, None
        if not only_pass and (start is not None or self.kept is not None):
            self.undo.append(RandomState(parameters).put_back)
        if model is not None:
            if not only_pass:
                self.undo.append(Buffers(model, keep).put_back)
            hook: Any = model.register_state_dict_pre_hook  # untyped in torch
            self.undo.append(hook(lambda *_: refuse()).remove)
        if start is not None and not only_pass:
            start.put_back()

    def back_up(self, weights: Sequence[Tensor], parameters: Iterable[Tensor]) -> None:
        """Copy w; `backup` is complete before the first weight moves. `parameters` are all that the optimizer has."""
        if on_host(weights):
            copies = self.pool.like(locals_of(weights), map(local, parameters))
            copy_all(copies, weights)
        else:  # a device has a caching allocator, and no memory to spare between the steps
            copies = [local(w.detach()).clone() for w in weights]
        self.backup.extend(zip(weights, copies, strict=True))

    def come_back(self) -> None:
        """Put every perturbed weight back, bit for bit, at its address, then all else. Interrupted, it can be called again."""
        if self.backup:
            with torch.no_grad():
                copy_all([w for w, _ in self.backup], [was for _, was in self.backup])
            torch.clear_autocast_cache()
        self.backup.clear()
        while self.undo:
            self.undo[-1]()
            self.undo.pop()
        release(self)

    def __getstate__(self) -> dict[str, Any]:
        return {
            **self.__dict__,
            "scaling": None,
            "reduce_again": None,
            "finite": [],
        }  # not for a copy: they belong to somebody else
