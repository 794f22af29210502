"""The longer error messages of SAM, and its warnings, each given once."""

from __future__ import annotations

import sys
from typing import Any

from sharpmin.core.rho import RhoSchedule
from sharpmin.core.warn import warn

from ._effects.hooks import IN_HOOK
from ._groups import Groups
from ._scaling import enabled
from ._settings import Settings
from ._state import SAMState

LEAST_GAIN = 0.9
MANY = 3  # second passes without a step before the warning

_FIRST, _SECOND = (
    f"""
    with opt.{block}():
        loss_fn(model(x), y).backward()"""
    for block in ("clean", "perturbed")
)

_CLOSURE = """
or, with a closure that does zero_grad, forward, backward and returns the loss,
    loss = opt.step(closure)"""

_FRAMEWORKS = {  # the module that is loaded where a framework makes the steps: what to write there
    "transformers.trainer": "In a Hugging Face Trainer: class MyTrainer(sharpmin.integrations.SAMTrainerMixin, Trainer)",
    "accelerate": "In Accelerate: sharpmin.integrations.SAMBackward",
    "lightning": "In Lightning: callbacks=[sharpmin.integrations.LightningSAM()]",
    "pytorch_lightning": "In Lightning: callbacks=[sharpmin.integrations.LightningSAM()]",
}

NO_PERTURBED = f"clean() was called again, but the last micro-batch has had no second pass; after each clean() block,{_SECOND}"

NO_SECOND = f"""step(): the second pass has left no gradient in any parameter, so nothing would move. Forward and backward go
inside the block, and zero_grad() comes after the step:{_SECOND}
    opt.step()"""

BEFORE_CLOSURE = """step(closure): gradients were there before, and the closure added to them: SAM calls the closure for both
passes itself, so leave the backward() before it out, and clear the gradients inside:
    def closure():
        opt.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        return loss
    opt.step(closure)"""

NO_BACKWARD = """step(closure): the closure returned a loss and left no gradient in any parameter, so nothing would move. It
must call backward() on that loss, and not clear the gradients afterwards; to leave a step out, return None:
    def closure():
        opt.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        return loss"""


_HOOKED = "\nThe parameters have a hook of the backward pass, too, which may have stepped and cleared the gradients" + IN_HOOK

WRITTEN = "a hook of the backward pass has written to the weights in the second pass" + IN_HOOK

OTHERS = """the model has trainable parameters that this optimizer does not step, and in this scope their gradients of the
first pass are those of one rank alone: freeze them (p.requires_grad_(False)), give them to the base optimizer in a group with
"rho": 0.0, or use scope="global\""""


def no_backward(in_hook: bool) -> str:
    """The message for a closure that leaves no gradient; `in_hook`: parameters have backward hooks, which may step."""
    return NO_BACKWARD + _HOOKED * in_hook


def _loop(needs_clean: bool) -> str:
    """The lines of a whole step; without a first pass for an ascent that does not need the gradient at w."""
    return f"""
    opt.zero_grad(){_FIRST * needs_clean}{_SECOND}
    opt.step()"""


def unclimbed(needs_clean: bool) -> str:
    """The message for a `step()` without a second pass; `needs_clean` as in `_loop`."""
    which = " first. Either" if needs_clean else ". With this ascent it is the only one:"
    loaded = dict.fromkeys(text for name, text in _FRAMEWORKS.items() if name in sys.modules)
    return "\n".join([f"step() needs the gradient at the perturbed weights{which}{_loop(needs_clean)}{_CLOSURE}", *loaded])


def missing(trainable: bool, needs_clean: bool, in_hook: bool) -> str:
    """The message for a missing first gradient; `needs_clean` as in `_loop`, `in_hook` as in `no_backward`."""
    if not trainable:
        return (
            "there is no first gradient: no parameter of this optimizer has requires_grad=True, so nothing can be trained; "
            "unfreeze them, or give the optimizer the parameters that are trained"
        )
    return (
        """there is no first gradient in any parameter of this optimizer. They were cleared after the backward pass, never
computed, or belong to another model or optimizer; the order is"""
        + _loop(needs_clean)
        + _HOOKED * in_hook
    )


def captured(part: object) -> str:
    """The message for a stateful ascent, descent or schedule in a CUDA graph."""
    return (
        f"{part!r} has a state, and a CUDA graph would go on reading the state of the time of its capture; "
        "run these steps without a graph, or use a part without state, such as Gradient() or Perturbed()"
    )


def graph(base: object, which: str) -> str:
    """The message for gradients with a graph of their own."""
    way = "to w + e" if which == "first" else "back from w + e"
    return (
        f"the {which} gradients have a graph of their own (create_graph=True), which moving the weights {way} would break: a "
        f"base that differentiates the gradient, such as AdaHessian, cannot be used in SAM (this base: {type(base).__name__}); "
        "use one that steps from given gradients, such as SGD or AdamW, and call backward() without create_graph"
    )


def _warn(state: SAMState, kind: str, text: str) -> None:
    """Warn once for each kind of warning and optimizer."""
    if kind not in state.memory.warned:
        state.memory.warned = {*state.memory.warned, kind}
        warn(text)


def warn_of_rounding(state: SAMState, gain: float | None, rounding: str) -> None:
    """Warn that rounding of the weights loses most of the perturbation."""
    if gain is not None and gain < LEAST_GAIN and rounding != "stochastic":
        _warn(
            state,
            "rounding",
            f"SAM: only {gain:.0%} of the ascent survives the rounding of float16, bfloat16 or int8 weights (opt.last.gain); "
            'keep the weights in float32 under autocast, or use rounding="stochastic"',
        )


def warn_skipped(state: SAMState, step: int) -> None:
    """Warn that a step was skipped; not under a loss scaler, which finds its scale by skipped steps."""
    if state.step.scaling is None:
        which = "first" if state.step.nonfinite else "second"
        _warn(
            state,
            "skipped",
            f"SAM: a {which} gradient of step {step} holds an inf or a nan, so the step was skipped: weights, optimizer state "
            "and step count stand still (opt.last.stepped is False); look at the loss and at the data of this batch. Later "
            "skips are not told",
        )


def warn_idle(state: SAMState, groups: Groups, owner: str) -> None:
    """Warn, at the end of a run in which no step was perturbed, unless rho is the number 0."""
    steps, radii = groups.count(), groups.radii()
    if steps and not groups.climbed() and any(isinstance(rho, RhoSchedule) or rho != 0 for rho in radii):
        asked = ", ".join(sorted({repr(rho) for rho in radii}))
        _warn(
            state,
            "idle",
            f"{owner}: none of the {steps} steps climbed: rho ({asked}) or the gradient was 0 at each of them, so this was a "
            f"run of {type(groups.base).__name__}; look at which step of the optimizer the schedule of rho begins and ends "
            "(opt.last.climbed counts)",
        )


def warn_needless_pass(state: SAMState) -> None:
    """Warn that a second pass ran although the schedule of rho gave 0 after the first pass."""
    _warn(
        state,
        "in vain",
        "SAM: rho came to 0 at this step, by its schedule and the first gradient, and a second pass ran at w all the same; ask "
        """inside the block, where the answer is known:
    with opt.perturbed():
        if opt.needs_second_pass:
            loss_fn(model(x), y).backward()""",
    )


def warn_unstepped(state: SAMState, settings: Settings, scaler: Any) -> None:
    """Warn that second passes run without a following `step()`."""
    counts = settings.scope == "global" and not enabled(scaler)
    if counts and state.memory.unstepped >= MANY:
        _warn(
            state,
            "unstepped",
            f"SAM: {state.memory.unstepped} second passes came without opt.step(), so the step count, and every schedule of "
            "rho, stands still. After the perturbed() block call opt.step(), not base.step(); and with several micro-batches "
            'a step, open the block once, after the last of them, or use scope="microbatch"',
        )
