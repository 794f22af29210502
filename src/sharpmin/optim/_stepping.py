"""The end of a step: the base optimizer steps with the gradients of the passes."""

from __future__ import annotations

from torch.optim.optimizer import Optimizer

from sharpmin.core.errors import PhaseError

from . import _messages as messages
from ._checkpoint import MEMORY
from ._gradients import accumulate, all_zero
from ._numeric.kinds import on_host
from ._numeric.shards import aligned
from ._numeric.sums import all_finite
from ._passes import Passes
from ._plan import refuse_capture, require_gradients, would_climb
from ._scaling import refuse_scaler_step
from ._second_pass import one_pass_gradient


def require_ready(passes: Passes, opt: Optimizer) -> None:
    """Check, before `step`, that the gradients of `restore` are complete; `opt` may be a proxy of the SAM.

    Raises:
        PhaseError: if the second pass left none, or they are not reduced over the ranks, or still scaled.
    """
    step, settings = passes.state.step, passes.settings
    if step.missing:
        raise PhaseError(messages.NO_SECOND)
    if step.second:
        settings.in_scope.require_reduced(second=True)
    if step.scaling is None and step.second and settings.ascent.needs_clean:
        refuse_scaler_step("after perturbed() without it", "give it to the block: `with opt.perturbed(scaler):`")
    elif step.scaling is not None and not step.nonfinite:
        step.scaling.require_step_by_scaler(opt)


def take_only_pass(passes: Passes) -> None:
    """Accept the first gradients for a step that perturbs nothing; a step that moves nothing at all is not counted.

    Raises:
        PhaseError: if a second pass or the first gradients are missing.
    """
    refuse_capture(passes)
    state, scope = passes.state, passes.settings.in_scope
    accumulated = state.step.accumulated
    if passes.groups.active():
        if not accumulated:
            require_gradients(passes, passes.groups.gradients())
        if would_climb(passes):
            raise PhaseError(messages.unclimbed(passes.settings.ascent.needs_clean))
    if not accumulated and passes.groups.rest():
        passes.groups.base.step()
        return
    if not all_zero(accumulated):
        scope.require_reduced(second=False)
    passes.groups.put(accumulate(accumulated, passes.groups.gradients()))
    state.begin(more=False).ready = True


def descend(passes: Passes) -> None:
    """Step the base, or skip the step if a gradient is not finite; either ends the step."""
    state, step = passes.state, passes.state.step
    try:
        if step.nonfinite or any(map(bool, step.overflow)) or not _gradients_are_finite(passes):
            state.record["stepped"] = False
            messages.warn_skipped(state, passes.groups.count())
        else:
            if passes.settings.descent.stateful and step.descent is None:  # also if a block ran without moving anything
                passes.groups.put(one_pass_gradient(state, passes.settings, passes.context(), passes.groups.gradients()))
            _step_base(passes)
    except BaseException:
        passes.give_up()
        raise
    state.forget_step()
    state.memory.unstepped = 0


def _step_base(passes: Passes) -> None:
    state, step = passes.state, passes.state.step
    if passes.settings.ascent.learns:
        pairs = passes.groups.gradients()
        remembered = state.memory.ascent if step.ascent is None else step.ascent
        step.ascent = passes.settings.ascent.learn([p for p, _ in pairs], [g for _, g in pairs], remembered)
    passes.groups.base.step()
    passes.groups.take_step(climbed=step.climbs > 0, passes=state.record["passes"])
    for group, numbers in step.gated:
        group.update({MEMORY + name: number for name, number in numbers.items()})
    own = set(passes.groups.parameters()) if step.ascent or step.descent else set()
    for name in ("ascent", "descent"):
        if (proposed := getattr(step, name)) is not None:  # without the state of parameters that are gone
            setattr(state.memory, name, {p: t for p, t in proposed.items() if p in own})
    state.record["stepped"] = True


def _gradients_are_finite(passes: Passes) -> bool:
    step, pairs = passes.state.step, passes.groups.gradients()
    grads = aligned([grad for _, grad in pairs], [p for p, _ in pairs])
    known = step.finite
    if len(known) == len(grads) and all(g is own and g._version == v for g, (own, v) in zip(grads, known, strict=True)):
        return True  # known to be finite, and not written to since
    if not passes.settings.skip_nonfinite and step.scaling is None and not on_host(grads):
        return True  # a scaler has checked them already
    return all_finite(grads, step.norms)  # a tensor on a device: one read for both passes
