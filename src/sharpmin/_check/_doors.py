"""The doors: the ways in which a training loop takes one SAM step.

Each is a function of the optimizer and of `run(k)`, which does forward and backward of pass k (1 or 2) at the
present weights, adds to the gradients, and returns the loss.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from sharpmin.optim import SAM

from ._case import Fault

Run = Callable[[int], Any]
LIMIT = 12  # gradient evaluations in one step: SAM needs two


def block(opt: Any, run: Run) -> Any:
    """Our block, as in the first example of the README."""
    opt.zero_grad()
    loss = run(1)
    with opt.perturbed():
        run(2)
    opt.step()
    return loss


def clean(opt: Any, run: Run) -> Any:
    """Our block, with the first pass inside `clean()`."""
    opt.zero_grad()
    with opt.clean():
        loss = run(1)
    with opt.perturbed():
        run(2)
    opt.step()
    return loss


def one_pass(opt: Any, run: Run) -> Any:
    """Our block for an ascent that needs no first gradient."""
    opt.zero_grad()
    with opt.perturbed():
        loss = run(1)
    opt.step()
    return loss


def closure(opt: Any, run: Run) -> Any:
    """`step(closure)` does both passes; the closure is zero_grad, forward and backward."""
    return opt.step(counted(opt, run))


def closure_after_backward(opt: Any, run: Run) -> Any:
    """The first pass is done by the caller, the second by `step(closure)`."""
    opt.zero_grad()
    loss = run(1)
    opt.step(counted(opt, run, done=1))
    return loss


def two_step(opt: Any, run: Run) -> Any:
    """`first_step(zero_grad=True)` between the passes, `second_step()` after them."""
    opt.zero_grad()
    loss = run(1)
    first_step(opt)
    run(2)
    opt.second_step()
    return loss


DOORS: dict[str, Callable[[Any, Run], Any]] = {
    "block": block,
    "clean": clean,
    "one-pass": one_pass,
    "closure": closure,
    "closure-after-backward": closure_after_backward,
    "two-step": two_step,
}
OURS = ("clean", "closure", "two-step")  # the doors of our SAM
FOREIGN = ("closure", "two-step")  # the doors that can be chosen by name for other optimizers


def first_step(opt: Any) -> None:
    """`first_step(zero_grad=True)`, also where it has no such argument."""
    if "zero_grad" in inspect.signature(opt.first_step).parameters:
        opt.first_step(zero_grad=True)
    else:
        opt.first_step()
        opt.zero_grad()


def counted(opt: Any, run: Run, done: int = 0) -> Callable[[], Any]:
    """A closure over both passes, which raises after `LIMIT` calls."""
    calls = done

    def both() -> Any:
        nonlocal calls
        calls += 1
        if calls > LIMIT:
            raise Fault(f"more than {LIMIT} gradient evaluations in one step")
        opt.zero_grad()
        return run(min(calls, 2))

    return both


def takes_closure(opt: Any) -> bool:
    """Whether `step` accepts an argument."""
    step = getattr(opt, "step", None)
    if not callable(step):
        return False
    kinds = inspect.Parameter
    positional = (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD, kinds.VAR_POSITIONAL)
    return any(p.kind in positional for p in inspect.signature(step).parameters.values())


def has_two_steps(opt: Any) -> bool:
    """Whether it has `first_step` and `second_step`."""
    return callable(getattr(opt, "first_step", None)) and callable(getattr(opt, "second_step", None))


def detect(opt: Any, asked: str | None, name: str) -> str:
    """The door of an optimizer: the one asked for, or one that it has.

    Raises:
        TypeError: if it has no such door.
    """
    ours = isinstance(opt, SAM)
    has = {
        "block": ours,
        "clean": ours,
        "two-step": has_two_steps(opt),
        "closure": takes_closure(opt),
    }
    if asked is not None:
        if asked not in has:
            raise ValueError(f"door={asked!r}; give one of {', '.join(has)}")
        if not has[asked]:
            needs = {"two-step": "first_step() and second_step()", "closure": "step(closure)"}.get(asked, "sharpmin.SAM")
            raise TypeError(f"{name} has no door {asked!r}: that needs {needs}")
        return asked
    for door in ("block", "two-step", "closure"):
        if has[door]:
            return door
    raise TypeError(f"{name} is no SAM: it has neither first_step() and second_step() nor a step() that takes a closure")
