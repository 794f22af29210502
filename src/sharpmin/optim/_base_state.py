"""Loading the base optimizer's part of a checkpoint: checked before the load, rolled back if the load fails."""

from __future__ import annotations

import cmath
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, optim
from torch.optim.optimizer import Optimizer

from ._bases import bases_of, steppers_of
from ._numeric.kinds import are_plain, entries
from ._numeric.shards import local

_NAMES = {"Adadelta", "Adagrad", "Adam", "Adamax", "AdamW", "ASGD", "Muon", "NAdam", "RAdam", "RMSprop", "Rprop"}
_NAMES |= {"SGD", "SparseAdam"}
_ENTRY_BY_ENTRY = {getattr(optim, name) for name in _NAMES if hasattr(optim, name)}  # older versions of torch lack some


def check(state_dict: Mapping[str, Any], base: Optimizer) -> None:
    """Refuse a state with nan or with tensors of wrong shapes.

    Shapes are checked for torch's own entrywise optimizers only; other optimizers may store tensors of any shape (a
    projection, row and column statistics, a history).

    Raises:
        ValueError: if a number or a tensor in state or groups is nan, or has a wrong shape.
    """
    state, groups = state_dict.get("state", {}), state_dict.get("param_groups") or []
    for number, group in enumerate(groups):
        for name, value in group.items():
            _refuse_nan(value, f"{name} of param group {number}")
    for key, entry in state.items():
        for name, value in entry.items() if isinstance(entry, Mapping) else ():
            _refuse_nan(value, f"{name} of parameter {key}")
    owners = (one for one in bases_of(base) for _ in one.param_groups)
    for saved, live, owner in zip(groups, base.param_groups, owners, strict=False):  # the base refuses other lengths
        if type(owner) in _ENTRY_BY_ENTRY:
            _check_shapes(state, saved.get("params", ()), live["params"])


def _refuse_nan(value: Any, name: str) -> None:
    if isinstance(value, (list, tuple)):
        for one in value:
            _refuse_nan(one, name)
    elif _is_nan(value):
        raise ValueError(f"load_state_dict: the checkpoint has nan in {name}: its run had diverged; load an earlier one")


def _is_nan(value: Any) -> bool:
    if isinstance(value, Tensor):
        known = are_plain([local(value)]) and (value.is_floating_point() or value.is_complex())
        return known and bool(torch.isnan(entries(local(value))).any())
    return isinstance(value, (float, complex)) and cmath.isnan(value)


def _check_shapes(state: Mapping[Any, Any], saved: Sequence[Any], live: Sequence[Tensor]) -> None:
    for key, p in zip(saved, live, strict=False):
        for name, t in state.get(key, {}).items():
            if isinstance(t, Tensor) and t.numel() > 1 and t.shape != p.shape:
                raise ValueError(
                    f"load_state_dict: the checkpoint has {name} of shape {tuple(t.shape)} for parameter {key}, which has "
                    f"shape {tuple(p.shape)}: it is of another model, or its parameters were in another order"
                )


@contextmanager
def all_or_nothing(base: Optimizer) -> Iterator[None]:
    """Restore groups and state of the base, and of the optimizers it wraps, if the block raises.

    Loading replaces these objects by new ones, so references to the old ones are enough.
    """
    was = [(one, dict(vars(one))) for one in [base, *steppers_of(base)]]
    try:
        yield
    except BaseException:
        for one, attributes in was:
            vars(one).clear()
            vars(one).update(attributes)
        raise
