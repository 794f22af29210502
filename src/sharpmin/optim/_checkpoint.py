"""What a SAM checkpoint holds besides the state of the base optimizer: numbers in the groups, tensors under one key.

A checkpoint is checked as a whole before anything changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from sharpmin.core.rho import Rho, RhoSchedule
from sharpmin.core.warn import warn

from ._protocols import ParameterState

COUNT = "sharpmin_step"  # steps taken, in every param group: plain numbers survive every way of saving a checkpoint
CLIMBED = "sharpmin_climbed"  # steps whose gradient was taken at w + e
PASSES = "sharpmin_passes"  # gradient evaluations of all steps
KEY = "sharpmin"
SCOPE = "sharpmin_scope"
MEMORY = "sharpmin_rho_"  # prefix of the numbers that a schedule of rho remembers
GROUPS = "groups"  # under `KEY`: SAM's entries of the groups, if the base's state dict has no param_groups
LIVE = "schedule"  # saved in place of a schedule object; loading keeps the live schedule
_TWO_STEP = ("old_p", "e_w")  # keys by which checkpoints of two-step SAM wrappers are recognized


def own_rho(group: Mapping[str, Any], rho: Rho) -> Rho:
    """The group's radius; `rho` if it has none, or only the placeholder for a schedule."""
    own: Rho | str = group.get("rho", LIVE)
    return rho if isinstance(own, str) and own == LIVE else own  # type: ignore[return-value]


def saved(
    base_state: dict[str, Any], scope: str, memories: Mapping[str, ParameterState], live: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Add to the base's state dict what SAM, its ascent and its descent remember.

    If the base's state dict has no `param_groups`, as that of some Lookaheads, the entries of groups go under `KEY`.
    """
    numbered = list(enumerate(p for group in live for p in group["params"]))
    kept: dict[str, Any] = {
        name: {i: memory[p] for i, p in numbered if p in memory} for name, memory in memories.items() if memory
    }
    if "param_groups" in base_state:
        base_state = {**base_state, "param_groups": [{**_plain(group), SCOPE: scope} for group in base_state["param_groups"]]}
    else:
        kept[GROUPS] = [
            {**_plain({k: v for k, v in group.items() if k == "rho" or k.startswith("sharpmin_")}), SCOPE: scope}
            for group in live
        ]
        base_state = {k: _without_schedules(v) for k, v in base_state.items()}
    return base_state | ({KEY: kept} if kept else {})


def _without_schedules(value: Any) -> Any:
    """Copy nested state with every schedule replaced by the placeholder."""
    if isinstance(value, RhoSchedule):
        return LIVE
    if type(value) in (list, tuple):
        return type(value)(map(_without_schedules, value))
    return {k: _without_schedules(v) for k, v in value.items()} if type(value) is dict else value


def groups_of(state_dict: Mapping[str, Any], live: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """What was saved for each group; empty dicts if the base saves no groups and the checkpoint is not of a SAM."""
    found: Any = state_dict.get("param_groups", state_dict.get(KEY, {}).get(GROUPS))
    return [{} for _ in live] if found is None else found


def _plain(group: Mapping[str, Any]) -> dict[str, Any]:
    """A group that `torch.load(weights_only=True)` accepts: schedules as the placeholder, rho as a Python float.

    No key may be missing: torch.distributed.checkpoint looks for every key of the live group.
    """
    kept = {k: LIVE if isinstance(v, RhoSchedule) else v for k, v in group.items()}
    return {**kept, "rho": float(kept["rho"])} if kept.get("rho", LIVE) != LIVE else kept


def check(state_dict: Mapping[str, Any], live: Sequence[Mapping[str, Any]], *, has_groups: Callable[[], bool]) -> None:
    """Refuse a checkpoint that a SAM with these groups cannot load.

    Args:
        state_dict: the checkpoint.
        live: the groups of the base.
        has_groups: whether the state dict of the base has `param_groups`, as that of every optimizer of torch.

    Raises:
        TypeError: if `state_dict` is no mapping, or a number in it is none.
        ValueError: for the checkpoint of a two-step wrapper, one without `param_groups` or with other ones, a rho or step count
            out of range, tensors of wrong shapes or with entries that are not finite.
    """
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"load_state_dict: state_dict is a {type(state_dict).__name__}; give what opt.state_dict() returned")
    for key in ("state", KEY):
        if not isinstance(state_dict.get(key, {}), Mapping):
            raise TypeError(f"load_state_dict: the checkpoint has {key}={state_dict[key]!r}; it must be a mapping")
    _refuse_two_step(state_dict)
    if state_dict.get("param_groups") is None and has_groups():
        raise ValueError("load_state_dict: the checkpoint has no param_groups; give what opt.state_dict() returned")
    _check_groups(groups_of(state_dict, live), len(live))
    parameters = [p for group in live for p in group["params"]]
    for name, memory in state_dict.get(KEY, {}).items():
        if name != GROUPS:
            _check_memory(name, memory, parameters)


def _check_memory(name: str, memory: object, parameters: Sequence[Tensor]) -> None:
    """Refuse saved tensors of an ascent or a descent that do not fit the parameters."""
    if not isinstance(memory, Mapping):
        raise TypeError(f"load_state_dict: what the {name} remembers is a {type(memory).__name__}; it must be a mapping")
    for i, t in memory.items():
        if not isinstance(i, int) or not 0 <= i < len(parameters) or not isinstance(t, Tensor):
            raise ValueError(f"load_state_dict: the {name} has state for parameter {i!r}, which does not exist here")
        if not _fits(t, parameters[i]):
            raise ValueError(
                f"load_state_dict: what the {name} remembers of parameter {i} has shape {tuple(t.shape)}, and must have "
                f"shape {tuple(parameters[i].shape)} and finite entries, real for a real one"
            )


def _fits(t: Tensor, parameter: Tensor) -> bool:
    return t.shape == parameter.shape and t.is_complex() == parameter.is_complex() and bool(torch.isfinite(t).all())


def _check_groups(groups: Any, count: int) -> None:
    if not isinstance(groups, Sequence) or not all(isinstance(group, Mapping) for group in groups):
        raise TypeError("load_state_dict: param_groups must be a list of mappings; give what opt.state_dict() returned")
    if len(groups) != count:
        raise ValueError(
            f"load_state_dict: the checkpoint has a different number of parameter groups, {len(groups)} for {count}"
        )
    for group in groups:
        rho = group.get("rho", LIVE)
        if not (isinstance(rho, str) and rho == LIVE):
            _check_number(rho, "rho", "a finite number >= 0")
        for name in (key for key in group if str(key).startswith(MEMORY)):
            _check_number(group[name], name, "a finite number >= 0")
        for name in (COUNT, CLIMBED, PASSES):
            steps = group.get(name, 0)
            _check_number(steps, name, "a whole number >= 0")
            if float(steps) != int(steps):
                raise ValueError(f"load_state_dict: the checkpoint has {name}={steps!r}; it must be a whole number >= 0")
        if not isinstance(group.get(SCOPE, ""), str):
            raise TypeError(f"load_state_dict: the checkpoint has {SCOPE}={group[SCOPE]!r}; it must be a string")


def _check_number(value: object, name: str, need: str) -> None:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"load_state_dict: the checkpoint has {name}={value!r}; it must be {need}")
    if not 0 <= float(value) < math.inf:
        raise ValueError(f"load_state_dict: the checkpoint has {name}={value!r}; it must be {need}")


def memory_of(state_dict: Mapping[str, Any], name: str, parameters: Sequence[Tensor]) -> ParameterState:
    """The saved state of an ascent or descent, moved to the device of each parameter; a fresh state if none was saved."""
    memory = state_dict.get(KEY, {}).get(name, {})
    return {parameters[i]: t.to(parameters[i].device).clone() for i, t in memory.items()}


def _refuse_two_step(state_dict: Mapping[str, Any]) -> None:
    """Refuse the checkpoint of a common two-step wrapper: it holds copies of weights, not the base optimizer's state."""
    for entry in state_dict.get("state", {}).values():
        found = [name for name in _TWO_STEP if isinstance(entry, Mapping) and name in entry]
        if found:
            raise ValueError(
                f"load_state_dict: this is the checkpoint of a two-step SAM wrapper: it holds {found[0]!r} for its "
                "parameters, but not the state of its base optimizer (momentum, exp_avg, ...), which was never saved; load the "
                "model's weights, and start with a fresh optimizer at the learning rate that you want"
            )


def warn_of_scope(groups: Sequence[Mapping[str, Any]], own: str) -> None:
    """Warn that the checkpoint has another scope; before the load, since a filter may turn the warning into an error."""
    for other in {group[SCOPE] for group in groups if SCOPE in group} - {own}:
        warn(f'load_state_dict: the checkpoint was made with scope="{other}", this SAM has scope="{own}"; the live one is used')
