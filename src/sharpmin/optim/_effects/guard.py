"""A table of the SAMs whose weights are perturbed now, so that no other optimizer steps on these weights.

The hook on optimizer steps is registered once and never removed: registering it in every step would change torch's table of
hooks while another thread iterates over it. There is no lock, since a signal handler that aborts a step would wait for its own
thread, and a forked child for ever. Every access to the table is a single operation of a dict.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook

from sharpmin.core.errors import PhaseError

from .hooks import IN_HOOK, hooked


class Rescuable(Protocol):
    """The state of an optimizer whose weights are perturbed."""

    def rescue(self) -> None:
        """Restore the weights and abort the step."""


_holders: dict[int, tuple[Rescuable, weakref.ref[Optimizer]]] = {}
"""id of the state -> the state, and the optimizer whose weights are perturbed."""
_registered: list[Any] = []


def watch(optimizer: Optimizer, state: Rescuable) -> None:
    """Guard every optimizer step in this process; restore the weights if `optimizer` is deleted while perturbed."""
    if not _registered:
        _registered.append(register_optimizer_step_pre_hook(_before_any_step))
    weakref.finalize(optimizer, state.rescue).atexit = False


def mark_perturbed(state: Rescuable, holder: Optimizer) -> None:
    """Enter `holder`, whose weights are about to be perturbed."""
    _holders[id(state)] = (state, weakref.ref(holder))


def unmark(state: Rescuable) -> None:
    """Remove an entry: its weights are restored."""
    _holders.pop(id(state), None)


def require_free(parameters: Iterable[Tensor], call: str, but: object = None, advice: str = "") -> None:
    """Raise `PhaseError`, with this advice, if a SAM other than that of `but` has one of these parameters perturbed."""
    if _holders and _holding(parameters, but):
        raise PhaseError(
            f"{call} came while a SAM holds some of these weights perturbed (w + e); leave its perturbed() block, or call its "
            f"restore(), first; after an exception, its abort(){advice}"
        )


def bring_back(parameters: Iterable[Tensor]) -> None:
    """Abort the steps of SAMs that hold these parameters perturbed; called when a new SAM takes them over."""
    for state in _holding(parameters, None) if _holders else []:
        state.rescue()


def _holding(parameters: Iterable[Tensor], but: object) -> list[Rescuable]:
    """The entries other than `but` with one of these parameters; an entry whose optimizer is gone is removed."""
    own = set(map(id, parameters))
    found = []
    for key, (state, holder) in list(_holders.items()):
        optimizer = holder()
        if optimizer is None:  # an interrupt cut its rescue short
            _holders.pop(key, None)
        elif key != id(but) and not own.isdisjoint(id(p) for group in optimizer.param_groups for p in group["params"]):
            found.append(state)
    return found


def _before_any_step(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    if _holders:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        in_hook = ". The parameters have a hook of the backward pass, too" + IN_HOOK if hooked(parameters) else ""
        require_free(parameters, f"{type(optimizer).__name__}.step()", advice=in_hook)


def refuse_while(model: nn.Module, refuse: Callable[[str], None]) -> list[Callable[[], None]]:
    """Refuse to save or load the weights of `model` until the returned functions are called."""
    save: Any = model.register_state_dict_pre_hook  # untyped in torch
    load: Any = model.register_load_state_dict_pre_hook
    return [
        save(lambda *_: refuse("model.state_dict()")).remove,
        load(lambda *_: refuse("model.load_state_dict()")).remove,
    ]
