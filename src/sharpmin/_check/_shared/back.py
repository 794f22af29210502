"""Restoring w: exactly, after an exception in the second pass or in the base, and after a wrapper was lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from sharpmin.optim._effects.rng import RandomState

from .._case import Fault, NotApplicable, raised, require
from .._doors import first_step
from .._trial import copies, difference, same, show
from .scene import Scene, close, length


def restore(s: Scene, steps: int) -> str:
    """Steps whose base does not step; (w + e) - e is not w in floating point."""
    was = copies(s.weights)
    for _ in range(steps):
        s.step()
    now = copies(s.weights)
    size = sum(float(t.double().square().sum()) for t in was) ** 0.5
    drift = length(now, was) / size if size else length(now, was)
    require(same(was, now), f"a relative drift of {drift:.2g}")
    return "bit for bit"


class Stop(Exception):
    """Raised in a pass, or in the step of a base, where an out-of-memory error might be."""


def second_pass_error(s: Scene) -> str:
    """An exception in the second pass, as an out-of-memory error would be; the base does not step.

    Between `first_step` and `second_step` an optimizer cannot see it: there the next step must bring w back.
    """
    was, passes = copies(s.weights), 0

    def stop(k: int, when: str) -> None:
        nonlocal passes
        passes += when == "before"
        if when == "after" and passes == 2:
            raise Stop

    s.passes = stop
    try:
        s.step()
    except Stop:
        pass
    else:
        if passes < 2:
            raise NotApplicable("there was no second pass")
        raise Fault("the exception was swallowed", "the exception reaches the caller")
    s.passes = None
    if s.door != "two-step":
        require(same(was, copies(s.weights)), f"w is off by {difference(was, copies(s.weights))} after the exception")
    s.go_on()
    require(same(was, copies(s.weights)), f"w is off by {difference(was, copies(s.weights))} after the next step")
    return "bit for bit"


def base_step_error(s: Scene, undisturbed: Scene, fail: Callable[[bool], None]) -> str:
    """An exception in the step of the base, as an out-of-memory error in its first state would be; then a whole step.

    `fail(True)` makes the base raise `Stop` before it changes anything; the second scene never sees it. Rounding on the way
    back is asked for elsewhere.
    """
    was, buffers, random = copies(s.weights), copies(s.model.buffers()), RandomState(s.weights)
    fail(True)
    try:
        s.step()
    except Stop:
        pass
    else:
        raise Fault("the exception was swallowed", "the exception reaches the caller")
    finally:
        fail(False)
    now = copies(s.weights)
    require(close(was, now), f"w is off by {difference(was, now)} after the exception")
    with torch.no_grad():
        for tensor, value in zip(s.model.buffers(), buffers, strict=True):
            tensor.copy_(value)
    random.put_back()
    try:
        s.step()
    except Exception as error:
        raise Fault(f"the next step {raised(error)}") from None
    random.put_back()
    undisturbed.step()
    ours, right = copies(s.weights), copies(undisturbed.weights)
    off = difference(ours, right)
    require(close(ours, right), f"the next step ends {off} away from that of a wrapper which saw no exception")
    return "w, and the next step is right"


def lost(s: Scene, anew: Callable[[], Any]) -> str:
    """`first_step()`, and then nothing but a new wrapper on the same parameters, as when a notebook cell is run again."""
    was = copies(s.held)
    s.opt.zero_grad()
    s.run(1)
    first_step(s.opt)
    if same(was, copies(s.held)):
        raise NotApplicable("the first step did not move the weights")
    s.opt = anew()
    now = copies(s.held)
    place = f"w = {show(now)}, " if sum(t.numel() for t in now) <= 4 else "w is "
    away = f"{place}{length(was, now):.3g} away, after the new one is made"
    require(same(was, now), f"the perturbation of the lost wrapper stays: {away}")
    try:
        s.model.state_dict()
        s.step()
    except Exception as error:
        raise Fault(f"then the next step {raised(error)}", "the new wrapper works") from None
    return "w, and the new wrapper works"
