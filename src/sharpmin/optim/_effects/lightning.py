"""Recognizes the closures that Lightning passes to `SAM.step`, without importing Lightning.

Lightning steps by `optimizer.step(closure=...)`, where the closure is one forward and backward of *the last* micro-batch, with
logging, hooks and clipping inside. Running it twice would raise nothing, but it is not a SAM step.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from sharpmin.core.errors import PhaseError

_WITHOUT = """SAM under Lightning's automatic optimization needs its callback: Lightning's closure holds the last micro-batch
only, logs, and clips, so it cannot simply run twice. Add
    Trainer(..., callbacks=[sharpmin.integrations.LightningSAM()])"""


def is_lightning(closure: Callable[[], Any]) -> bool:
    """Whether a closure is Lightning's: around the training step, or the empty one of manual optimization."""
    return isinstance(closure, partial) and getattr(closure.func, "__name__", None) == "_wrap_closure"


def own_closure(closure: Callable[[], Any]) -> Callable[[], Any] | None:
    """The closure to run; None in manual optimization, where `self.optimizers().step()` is a step without closure.

    Raises:
        PhaseError: in automatic optimization without the callback.
    """
    if not isinstance(closure, partial) or not is_lightning(closure):
        return closure
    module, _, inner = closure.args
    if module.automatic_optimization:
        if not any(getattr(callback, "makes_second_pass", False) for callback in module.trainer.callbacks):
            raise PhaseError(_WITHOUT)
        return closure
    if getattr(inner, "__name__", None) != "do_nothing_closure":
        return closure
    closure()  # Lightning's hooks before a step
    return None
