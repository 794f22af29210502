"""Moving the weights to w + e and back."""

from __future__ import annotations

from contextlib import nullcontext

from torch import Tensor, nn

from sharpmin.core.errors import PhaseError

from . import _messages as messages
from ._effects import guard
from ._effects.buffers import Buffers, Modules
from ._effects.hooks import have_written, writes
from ._effects.others import Others
from ._effects.rng import RandomState, seeded
from ._gradients import Pairs, accumulate, have_graph, kept, poison_with_nan
from ._numeric.rounding import StochasticRounding
from ._passes import Passes
from ._perturbation import Perturbation
from ._plan import StepPlan
from ._scope import require_shard_gradients
from ._second_pass import descent_gradient, moves_of
from ._state import StepOutcome, Trip, require_unperturbed


def depart(passes: Passes, plan: StepPlan) -> None:
    """Move the weights to w + e, after storing what the second pass must not change."""
    state, outcome = passes.state, plan.outcome
    accumulated = state.step.accumulated
    keeps = not outcome.needs_second or (outcome is StepOutcome.CLIMB and passes.keeps)
    trip = Trip(outcome, kept(plan.first) if keeps else None)
    trip.in_place = state.first.before is not None or (passes.settings.in_scope.in_place and not keeps)
    try:
        state.trip = trip  # before a weight moves, so that an interrupt from here on can restore it
        guard.mark_perturbed(state, passes.groups.base)
        _set_aside(passes, trip)
        if outcome in (StepOutcome.CLIMB, StepOutcome.ONLY_PASS) and plan.perturbation.may_move:
            _climb(passes, plan.perturbation, trip)
        _start_second(passes, plan, trip)
    except BaseException:
        unscaled = state.step.scaling is not None
        abort(passes)
        if not unscaled:  # else the scaler would unscale them again
            passes.groups.put(plan.first)
            state.step.accumulated = accumulated
        raise


def _start_second(passes: Passes, plan: StepPlan, trip: Trip) -> None:
    """Set the gradients at the start of the second pass: none, or under DDP the accumulated ones."""
    step, before = passes.state.step, passes.state.first.before
    if trip.in_place and (plan.outcome is StepOutcome.SPOIL or _signals_by_nan(passes, plan)):
        step.accumulated = accumulate(step.accumulated, poison_with_nan(plan.first, plan.perturbation.norm))
    start = (step.accumulated if before is None else before) if trip.in_place else []
    passes.groups.put(start or [])
    if plan.outcome is not StepOutcome.SKIP:
        passes.groups.clear_store_of_base()
    trip.start = [(g, g._version) for _, g in start or []]
    trip.hooked = writes(passes.groups.parameters())


def stay(passes: Passes, plan: StepPlan) -> None:
    """Make the first gradients those of the step, without a second pass."""
    step = passes.state.step
    passes.groups.put(accumulate(step.accumulated, plan.first))
    step.accumulated, step.ready = None, True


def restore(passes: Passes) -> None:
    """Bring the weights back to w, bit for bit, and leave the descent gradient in place."""
    state = passes.state
    if (trip := state.trip) is None:
        raise PhaseError(
            f"restore() needs perturbed weights, but the step is in phase {state.phase.value!r}; call perturb() first"
        )
    compared = trip.first if trip.outcome is StepOutcome.CLIMB else None
    moves = None if compared is None or trip.is_multiple_of_gradient else moves_of(*trip.held)
    moved, stepped = bool(trip.held[0]), have_written(trip.hooked)
    state.come_back()
    try:
        if stepped:
            raise PhaseError(messages.WRITTEN)
        second = passes.groups.gradients()
        if moved and have_graph(second):
            raise PhaseError(messages.graph(passes.groups.base, "second"))
        _take_second(passes, trip, second, compared, moves)
    except BaseException:
        abort(passes)
        raise
    state.first.before = state.step.accumulated = None
    state.step.ready, state.trip = True, None


def _take_second(passes: Passes, trip: Trip, second: Pairs, compared: Pairs | None, moves: Pairs | None) -> None:
    """Compute the descent gradient from both passes and set it."""
    state, ran = passes.state, trip.second_ran(second)
    scaling = state.step.scaling
    if ran:
        passes.require_complete()
    if trip.outcome is StepOutcome.SKIP or (trip.outcome is StepOutcome.REST and not ran):
        first = trip.first or []
        if scaling is not None and trip.outcome is StepOutcome.REST:
            first = scaling.back(first)
        passes.groups.put(accumulate(state.step.accumulated, first))
    else:
        state.step.missing = not ran
        if trip.outcome is StepOutcome.REST and state.step.gated and state.record["rho"] == 0:
            messages.warn_needless_pass(state)
        _count_second(passes, second)
        if compared is not None:
            second = descent_gradient(state, passes.settings, passes.watchers, passes.context(), compared, second, moves)
        if compared is not None or (state.step.accumulated and not trip.in_place):
            passes.groups.put(accumulate(state.step.accumulated, second))


def _count_second(passes: Passes, second: Pairs) -> None:
    """Check that the second pass was reduced as the scope needs it, and let the scaler unscale it."""
    state, scaling = passes.state, passes.state.step.scaling
    passes.settings.in_scope.require_second()
    require_shard_gradients(passes.groups, second, "second")
    state.step.second, state.memory.unstepped = True, state.memory.unstepped + 1
    state.record["passes"] = 2 if passes.settings.ascent.needs_clean else 1
    if scaling is not None:
        scaling.second()
        scaling.mark_overflow(state.step.norms, second)


def abort(passes: Passes) -> None:
    """Abort a step: restore the weights and drop incomplete gradients; no effect while the weights are `w`."""
    if passes.state.trip is not None:
        passes.state.rescue()
        passes.groups.put([])


def _signals_by_nan(passes: Passes, plan: StepPlan) -> bool:
    """Whether a non-finite norm of this rank is known only to its device, and must be passed on as nan."""
    asks = passes.settings.skip_nonfinite or passes.state.step.scaling is not None
    return (
        asks
        and bool(plan.perturbation.groups)
        and passes.settings.in_scope.all_ranks
        and isinstance(plan.perturbation.norm, Tensor)
    )


def _set_aside(passes: Passes, trip: Trip) -> None:
    """Store how to restore buffers, random states and other gradients; the only pass of a step may change all of them."""
    state, model = passes.state, passes.settings.model
    start, state.first.random = state.first.random, None
    if trip.outcome is not StepOutcome.ONLY_PASS:
        if start is not None or trip.outcome is StepOutcome.SKIP:
            trip.undo.append(RandomState(passes.groups.parameters()).put_back)
        if model is not None:
            modules = list(model.named_modules())
            trip.undo.append(Buffers(model, passes.settings.buffers, modules).put_back)
            _set_others_aside(passes, trip, model, modules)
    if model is not None:
        trip.undo.extend(guard.refuse_while(model, lambda call: require_unperturbed(state, call)))
    if start is not None and trip.outcome is not StepOutcome.ONLY_PASS:
        start.put_back()


def _set_others_aside(passes: Passes, trip: Trip, model: nn.Module, modules: Modules) -> None:
    """Store the gradients of the model's other parameters, which must keep their values of the first pass."""
    others = Others(model, passes.groups.parameters(), modules)
    trip.undo.append(others.put_back)
    if others.gradients and passes.settings.in_scope.all_ranks and trip.outcome is not StepOutcome.REST:
        raise ValueError(messages.OTHERS)


def _is_measured(step: int) -> bool:
    """Whether to measure the realized radius of half-precision weights, which reads them all: on steps 0, 1, 64, 128, ..."""
    return step < 2 or step % 64 == 0


def _climb(passes: Passes, perturbation: Perturbation, trip: Trip) -> None:
    state, step = passes.state, passes.state.step
    trip.back_up(perturbation.weights, passes.groups.parameters(), state.memory.backup)
    seed = (passes.groups.count() << 16) + step.climbs
    stochastic = passes.settings.rounding == "stochastic" and perturbation.low
    with nullcontext() if perturbation.plain else seeded(perturbation.weights, seed):
        perturbation.move(StochasticRounding(seed) if stochastic else None, state.memory.lines)
    step.climbs += 1
    trip.is_multiple_of_gradient = perturbation.is_multiple_of_gradient
    measure = passes.settings.telemetry or _is_measured(passes.groups.count())
    state.record |= perturbation.report(trip.held[1], measure=measure)
    gain = state.record["gain"]
    if isinstance(gain, float):
        messages.warn_of_rounding(state, gain, passes.settings.rounding)
