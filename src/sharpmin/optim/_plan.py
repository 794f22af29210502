"""Between the passes: check the first gradients and decide the perturbation. Nothing moves yet."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from sharpmin.core.errors import PhaseError

from . import _messages as messages
from ._effects import guard
from ._effects.hooks import hooked
from ._gradients import Pairs, all_zero, gradients_of, have_graph
from ._groups import Active
from ._numeric.kinds import on_host
from ._numeric.sums import all_finite
from ._passes import Passes
from ._perturbation import Perturbation, PerturbedGroup, perturbed_groups
from ._protocols import Context, ParameterState
from ._scaling import Scaling, enabled
from ._scope import require_shard_gradients
from ._state import StepOutcome, outcome_of


@dataclass
class StepPlan:
    """What is decided between the passes: the perturbation, the outcome, and the first gradients."""

    perturbation: Perturbation
    outcome: StepOutcome
    first: Pairs


def plan(passes: Passes, scaler: Any, key: Optimizer) -> StepPlan:
    """Decide perturbation and outcome from the first gradients. `key` is the object by which a scaler knows the optimizer."""
    passes.require_unperturbed("perturb()")
    refuse_capture(passes)
    state, settings, scope = passes.state, passes.settings, passes.settings.in_scope
    guard.require_free(passes.groups.parameters(), "perturb()", but=state)
    scope.require_comparable(keeps=passes.keeps)
    accumulated, needs_clean = state.step.accumulated, settings.ascent.needs_clean
    step = state.begin(more=bool(accumulated) and not all_zero(accumulated))  # an earlier second pass without a step is void
    active, first = passes.groups.active(), passes.groups.gradients()
    settings.check_radii(schedule for _, schedule in active)
    if active and needs_clean:
        scope.require_first(accumulated)
        require_gradients(passes, first)
        messages.warn_unstepped(state, settings, scaler)
    if state.first.end_no_sync is not None:  # a framework may run the second pass inside the closure
        state.first.end_no_sync()
    try:
        _unscale(passes, scaler, key, active)
        perturbation = _perturbation(passes, active)
    except BaseException:
        if step.scaling is not None:  # else the gradients are unchanged, and the call can be repeated
            passes.give_up()
        raise
    norm, all_ranks = perturbation.norm, bool(perturbation.groups) and scope.all_ranks
    finite = not needs_clean or isinstance(norm, Tensor) or (math.isfinite(norm) and _others_finite(passes, perturbation))
    outcome = outcome_of(needs_clean=needs_clean, finite=finite, moves=perturbation.may_move, all_ranks=all_ranks)
    step.norms = step.norms + norm if isinstance(norm, Tensor) and not all_ranks else 0.0
    step.nonfinite = step.nonfinite or outcome is StepOutcome.SKIP
    state.record |= perturbation.asked
    return StepPlan(perturbation, outcome, first)


def _perturbation(passes: Passes, active: Active) -> Perturbation:
    """The perturbation; the ascent's next state is stored with the step."""
    settings, context = passes.settings, passes.context()
    groups, passes.state.step.ascent = _perturbed_groups(passes, active, context)
    perturbation = Perturbation.of(groups, settings.geometry, settings.ascent, context.step)
    passes.state.step.gated = [(group.group, group.memory) for group in groups if group.memory]
    return perturbation


def _others_finite(passes: Passes, perturbation: Perturbation) -> bool:
    """Whether the gradients of unperturbed groups are finite; True on a device, which is not read."""
    climbing = {id(group.group) for group in perturbation.groups}
    resting = [g for _, g in gradients_of(group for group in passes.groups if id(group) not in climbing)]
    return not on_host(resting) or all_finite(resting)


def _unscale(passes: Passes, scaler: Any, key: Optimizer, active: Active) -> None:
    """Store the scaler, and unscale the first gradients in scope "global"; a scaler allows that once an update."""
    if not enabled(scaler) or not passes.settings.ascent.needs_clean:
        return
    scope, step = passes.settings.in_scope, passes.state.step
    step.scaling = scaling = Scaling.of(scaler, key, passes.groups.base, once=scope.scaler_once)
    if active:  # else the base steps with these gradients, which scaler.step(opt) will unscale
        scaling.first()
        step.overflow = scope.agree_on_overflow(scaler, key if scaling.swapped else passes.groups.base)


def refuse_capture(passes: Passes) -> None:
    """Refuse stateful parts in a CUDA graph, which would read their state of the time of the capture for ever.

    Raises:
        PhaseError: if a graph is being captured, and the ascent, the descent or a schedule of rho is stateful.
    """
    cuda: Any = torch.cuda  # untyped in part
    if not (cuda.is_initialized() and cuda.is_current_stream_capturing()):
        return
    remembers: list[object] = [part for part in (passes.settings.ascent, passes.settings.descent) if part.stateful]
    remembers += [schedule for _, schedule in passes.groups.active() if schedule.remembers]
    if remembers:
        raise PhaseError(messages.captured(remembers[0]))


def would_climb(passes: Passes) -> bool:
    """Whether the present gradients would perturb the weights, so that a second pass is missing."""
    groups, _ = _perturbed_groups(passes, passes.groups.active(), passes.context())
    return bool(any(group.metric.measure() != 0 for group in groups))


def _perturbed_groups(passes: Passes, active: Active, context: Context) -> tuple[list[PerturbedGroup], ParameterState]:
    settings, step = passes.settings, passes.state.step
    remembered = passes.state.memory.ascent if step.ascent is None else step.ascent
    return perturbed_groups(active, settings.geometry, settings.ascent, remembered, context, step.scaling)


def require_gradients(passes: Passes, pairs: Pairs) -> None:
    """Check, after a first pass, that there are gradients; missing gradients are not zero gradients.

    Raises:
        PhaseError: if no parameter has a gradient, or they have a graph, which moving the weights would break.
    """
    if have_graph(pairs):
        raise PhaseError(messages.graph(passes.groups.base, "first"))
    if not pairs:
        require_shard_gradients(passes.groups, pairs, "first")
        parameters, needs_clean = list(passes.groups.parameters()), passes.settings.ascent.needs_clean
        raise PhaseError(messages.missing(any(p.requires_grad for p in parameters), needs_clean, bool(hooked(parameters))))
