"""What Lightning hands to `SAM.step`, seen before the step; also where nobody has imported Lightning's part of sharpmin.

Lightning steps by `optimizer.step(closure=...)`, where the closure is one forward and backward of *the last* micro-batch, with
logging, hooks and clipping inside. Running that twice is no SAM step, and nothing in it would fail.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook

from sharpmin.core.errors import PhaseError
from sharpmin.optim.sam import SAM

_WITHOUT = """SAM under Lightning's automatic optimization needs its callback: Lightning's closure holds the last micro-batch
only, logs, and clips, so it cannot simply run twice. Add
    Trainer(..., callbacks=[sharpmin.integrations.LightningSAM()])"""


def watch() -> None:
    """Look at every step of a SAM from now on; called once, on import."""
    register_optimizer_step_pre_hook(_before_step)


def _before_step(optimizer: Optimizer, args: Any, kwargs: Any) -> Any:
    """Refuse a step without the callback; in manual optimization, let `self.optimizers().step()` be a step without closure.

    Raises:
        PhaseError: in automatic optimization without the callback.
    """
    if not isinstance(optimizer, SAM):
        return None
    closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
    if not isinstance(closure, partial) or getattr(closure.func, "__name__", None) != "_wrap_closure":
        return None
    module, _, inner = closure.args
    if module.automatic_optimization:
        if not any(getattr(callback, "makes_second_pass", False) for callback in module.trainer.callbacks):
            raise PhaseError(_WITHOUT)
        return None
    if getattr(inner, "__name__", None) != "do_nothing_closure":
        return None
    closure()  # the hooks that Lightning calls before a step
    return args[:1], {key: value for key, value in kwargs.items() if key != "closure"}
