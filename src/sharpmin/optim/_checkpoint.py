"""What of a SAM travels in a checkpoint besides the state of its base optimizer: plain numbers, and tensors under one key."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from sharpmin.core.rho import Rho, RhoSchedule

from ._ascent import Ascent, State

KEY = "sharpmin"
SCOPE = "sharpmin_scope"
LIVE = "schedule"  # stands in checkpoints for a schedule, which is code: the live one is used
_TWO_STEP = ("old_p", "e_w")  # what two-step wrappers leave in the state of a parameter


def plain_group(group: Mapping[str, Any]) -> dict[str, Any]:
    """A group with a word for schedules, its rho a Python float: what `torch.load(weights_only=True)` accepts.

    No key may be missing: torch.distributed.checkpoint looks for every key of the live group.
    """
    kept = {k: LIVE if isinstance(v, RhoSchedule) else v for k, v in group.items()}
    return {**kept, "rho": float(kept["rho"])} if kept.get("rho", LIVE) != LIVE else kept


def own_rho(group: Mapping[str, Any], rho: Rho) -> Rho:
    """The group's radius; `rho` if it has none, or only the word of a checkpoint."""
    own: Rho | str = group.get("rho", LIVE)
    return rho if isinstance(own, str) and own == LIVE else own  # type: ignore[return-value]


def save_ascent(state: State, parameters: Iterable[Tensor]) -> dict[str, Any]:
    """What the ascent remembers, by the number of the parameter; nothing if it remembers nothing."""
    if not state:
        return {}
    return {KEY: {"ascent": {i: state[p] for i, p in enumerate(parameters) if p in state}}}


def load_ascent(state_dict: Mapping[str, Any], parameters: Iterable[Tensor], ascent: Ascent) -> State:
    """The inverse of `save_ascent`, on the device of each parameter; a fresh state where nothing was saved."""
    saved = state_dict.get(KEY, {}).get("ascent")
    if saved is None or not ascent.stateful:
        return ascent.init()
    return {p: saved[i].to(p.device).clone() for i, p in enumerate(parameters) if i in saved}


def refuse_two_step(state_dict: Mapping[str, Any]) -> None:
    """Refuse the checkpoint of a common two-step wrapper: it holds copies of weights, not the base optimizer's state."""
    for entry in state_dict.get("state", {}).values():
        found = [name for name in _TWO_STEP if isinstance(entry, Mapping) and name in entry]
        if found:
            raise ValueError(
                f"load_state_dict: this is the checkpoint of a two-step SAM wrapper: it holds {found[0]!r} for its "
                "parameters, but not the state of its base optimizer (momentum, exp_avg, ...), which was never saved; load the "
                "model's weights, and start with a fresh optimizer at the learning rate that you want"
            )


def warn_of_scope(saved: set[str], own: str) -> None:
    """Say that the run goes on with another algorithm than it began with."""
    for other in saved - {own}:
        warnings.warn(
            f'load_state_dict: the checkpoint was made with scope="{other}", this SAM has scope="{own}"; the live one is used',
            UserWarning,
            stacklevel=3,
        )
