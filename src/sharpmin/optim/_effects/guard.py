"""Who holds perturbed weights right now, in the whole process: what keeps other optimizers from stepping on them.

One hook, registered once and for good. A hook that came and went with every step would change torch's table of hooks while
another thread, which trains another model, walks through it.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook

from sharpmin.core.errors import PhaseError

_lock = threading.Lock()
_holders: weakref.WeakValueDictionary[int, Optimizer] = weakref.WeakValueDictionary()
"""id of the step's state -> the optimizer whose weights are perturbed; one that nobody has any more holds nothing."""
_registered = False


def watch() -> None:
    """Register the hook, if that has not been done."""
    global _registered  # noqa: PLW0603  # once in the life of a process
    with _lock:
        if not _registered:
            register_optimizer_step_pre_hook(_before_any_step)
            _registered = True


def claim(key: object, holder: Optimizer) -> None:
    """From now on the weights of `holder` are perturbed."""
    with _lock:
        _holders[id(key)] = holder


def release(key: object) -> None:
    """The weights are back."""
    with _lock:
        _holders.pop(id(key), None)


def demand_free(parameters: Iterable[Tensor], call: str, but: object = None) -> None:
    """Raise `PhaseError` if somebody (but the holder `but`) has one of these parameters perturbed."""
    if not _holders:
        return
    with _lock:
        others = [holder for key, holder in _holders.items() if key != id(but)]
    held = {id(p) for holder in others for group in holder.param_groups for p in group["params"]}
    if held and any(id(p) in held for p in parameters):
        raise PhaseError(
            f"{call} came while a SAM holds some of these weights perturbed (w + e); leave its perturbed() block, or call its "
            "restore(), first"
        )


def _before_any_step(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    demand_free((p for group in optimizer.param_groups for p in group["params"]), f"{type(optimizer).__name__}.step()")
