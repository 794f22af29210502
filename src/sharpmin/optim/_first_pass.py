"""The first pass of a step or of a micro-batch, and steps by closure, which run both passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from sharpmin.core.errors import PhaseError

from . import _messages as messages
from ._block import PerturbedBlock
from ._effects.hooks import hooked
from ._effects.lightning import is_lightning
from ._effects.report import detached
from ._gradients import accumulate, kept
from ._numeric.sums import sum_of_squares
from ._passes import Passes
from ._plan import StepPlan, plan, would_climb
from ._scaling import refuse_scaler_step
from ._state import Phase
from ._stepping import descend
from ._trip import depart, restore, stay


@contextmanager
def first_pass(passes: Passes) -> Iterator[None]:
    """The context of `clean()`: in scopes "rank" and "microbatch" gradients of this pass are neither reduced nor added up."""
    first = passes.state.first
    random = first.random
    passes.remember_random(again=passes.settings.in_scope.name == "microbatch")
    first.open = True
    try:
        with _apart(passes):
            yield
    except BaseException:
        first.random = random  # discard the failed pass
        raise
    finally:
        first.open = False


@contextmanager
def _apart(passes: Passes) -> Iterator[None]:
    """Keep the gradients of scopes "rank" and "microbatch" apart from accumulated gradients and from other ranks."""
    scope, first = passes.settings.in_scope, passes.state.first
    active = bool(passes.groups.active())
    if scope.name == "microbatch" and not active:  # this pass may be the only one, and DDP or a scaler then needs all of it
        first.before = [(p, g.clone()) for p, g in passes.groups.gradients()]
        try:
            yield
        except BaseException:
            passes.groups.put(first.before)
            first.before = None
            raise
        return
    first.before = None
    if scope.name == "microbatch":
        open_microbatch(passes)
    elif not scope.per_pass or not active:
        yield
        return
    before = passes.groups.gradients()
    try:
        with scope.no_sync() if active else ExitStack(), inside(passes):
            yield
    except BaseException:
        passes.groups.put(before if scope.name == "rank" else passes.state.step.accumulated or [])
        passes.state.step.accumulated = None
        raise


@contextmanager
def inside(passes: Passes, no_sync: AbstractContextManager[Any] | None = None) -> Iterator[None]:
    """The first pass; `no_sync` is active during it, and ends early if the second pass starts inside the block."""
    first, memory, scope = passes.state.first, passes.state.memory, passes.settings.in_scope
    searched, first.inside, memory.ddp_searched = memory.ddp_searched, True, True
    try:
        with ExitStack() as stack:
            if not searched:
                stack.enter_context(scope.refuse_unknown_ddp(passes.groups.parameters()))
            if no_sync is not None:
                held = stack.enter_context(ExitStack())
                held.enter_context(no_sync)
                first.end_no_sync = held.close
            yield
    finally:
        first.inside, first.end_no_sync = False, None


def open_microbatch(passes: Passes) -> None:
    """Set the accumulated gradients aside for the two passes of one micro-batch."""
    step, groups = passes.state.step, passes.groups
    if step.accumulated is not None:  # the last micro-batch had no second pass, and needs none if its gradient is zero
        if would_climb(passes):
            raise PhaseError(messages.NO_PERTURBED)
        groups.put(accumulate(step.accumulated, groups.gradients()))
    step.ready, step.accumulated = False, kept(groups.gradients())
    groups.put([])


def step_by_closure(passes: Passes, closure: Callable[[], Any], opt: Optimizer) -> Any:
    """Run both passes by closure and step; returns the loss at w. After an interrupt the next step starts afresh."""
    state = passes.state
    if state.phase is Phase.READY:
        raise PhaseError("step(closure) came after perturbed(): the second pass is done; call step() without closure")
    refuse_scaler_step("with a closure", "use `with opt.perturbed(scaler):`, then scaler.step(opt)")
    try:
        loss = _run_closure(passes, closure, opt)
        if state.step.ready:
            descend(passes)
    except BaseException:
        state.first.random = None
        if state.step.ready and state.trip is None:
            passes.give_up()
        raise
    return loss


def _run_closure(passes: Passes, closure: Callable[[], Any], opt: Optimizer) -> Any:
    """Run all passes by closure; returns the loss at w. A framework may run the second pass inside the first call.

    A closure that returns None and leaves no gradient skips the step.
    """
    state, scope = passes.state, passes.settings.in_scope
    if not passes.settings.ascent.needs_clean:
        with _block(passes, opt), torch.enable_grad():
            loss = closure()
        state.record |= {"perturbed_loss": detached(loss)}
        return loss
    passes.remember_random()
    before, step = _first_gradient(passes), state.step
    state.step.accumulated = [] if scope.name == "microbatch" else None  # the closure is one micro-batch
    state.first.before = None
    no_sync = scope.no_sync() if scope.name == "rank" and passes.groups.active() else None
    try:
        with torch.enable_grad(), inside(passes, no_sync):
            loss = closure()
    except BaseException:
        state.step.accumulated = None
        raise
    losses = {"clean_loss": detached(loss)}
    if not state.step.ready:
        if not is_lightning(closure):
            _require_own_gradients(passes, loss, before if state.step is step else None)
        if loss is None and passes.groups.active() and _first_gradient(passes) is None:
            state.leave_out()
            return None
        ahead = plan(passes, None, opt)
        if ahead.outcome.needs_second:
            with _block(passes, opt, ahead), torch.enable_grad():
                state.record |= losses  # watchers are called when the block ends
                losses["perturbed_loss"] = detached(closure())
        else:
            stay(passes, ahead)
    state.record = {**losses, **state.record}  # set by a framework that knows the mean loss of all micro-batches
    return loss


def _block(passes: Passes, opt: Optimizer, ahead: StepPlan | None = None) -> PerturbedBlock:
    """Perturb on entry and restore on exit; `ahead` is a plan that has been made already."""
    made = ahead
    return PerturbedBlock(
        passes, lambda: depart(passes, plan(passes, None, opt) if made is None else made), lambda: restore(passes)
    )


def _first_gradient(passes: Passes) -> tuple[Tensor, int] | None:
    """The first parameter's gradient that exists, with the number of writes to it."""
    return next(((g, g._version) for _, g in passes.groups.gradients()), None)


def _require_own_gradients(passes: Passes, loss: Any, before: tuple[Tensor, int] | None) -> None:
    """Check, after the first call of a closure, that it computed new gradients and did not add to old ones.

    Args:
        loss: what it returned.
        passes: the state of the step.
        before: the first gradient before the call; None if the closure called SAM's `zero_grad`.

    Raises:
        PhaseError: if it left no gradient, or added to gradients that were there.
    """
    now, needed = _first_gradient(passes), loss is not None and bool(passes.groups.active())
    stale = before is not None and now is not None and now[0] is before[0]
    written = now[1] - before[1] if stale and now is not None and before is not None else 0
    if (now is None or (stale and written == 0)) and needed:
        raise PhaseError(messages.no_backward(bool(hooked(passes.groups.parameters()))))
    if now is not None and stale and written == 1:  # zeroed in place and computed anew would be two writes
        _refuse_added(passes, now[0], needed=needed)


def _refuse_added(passes: Passes, gradient: Tensor, *, needed: bool) -> None:
    """Refuse a gradient with one write, which added to it; zeroed gradients are allowed unless all are zero."""
    if sum_of_squares([gradient]) != 0:
        passes.groups.put([])
        raise PhaseError(messages.BEFORE_CLOSURE)
    if needed and sum_of_squares([g for _, g in passes.groups.gradients()]) == 0:
        raise PhaseError(messages.no_backward(bool(hooked(passes.groups.parameters()))))
