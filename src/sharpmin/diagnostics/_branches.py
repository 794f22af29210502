"""Copies of a run that train on beside it: joint deep copies, restored random states, and checked losses."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from sharpmin.optim.sam import SAM

from ._generators import Randomness

Step = Callable[[nn.Module, SAM, Any], Any]
"""One training step on a model, its optimizer and a batch, as in the run; returns the loss at w."""


@contextmanager
def aside(opt: SAM) -> Iterator[None]:
    """A block that restores the random state of the run at its end, for each branch."""
    state = Randomness([p for group in opt.param_groups for p in group["params"]], None)
    try:
        yield
    finally:
        state.put_back()


def copied(model: nn.Module, opt: SAM, scheduler: Any, owner: str) -> tuple[nn.Module, SAM, Any]:
    """A joint deep copy of model, optimizer and scheduler; probes of `opt` do not watch the copy."""
    try:
        return copy.deepcopy((model, opt, scheduler))
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        raise TypeError(
            f"{owner}: the run (base: {type(opt.base).__name__}) cannot be copied, and {owner} works on copies only: {error}"
        ) from error


def loss_of(value: Any, owner: str) -> float:
    """The loss that `step` returned, as a float."""
    if not isinstance(value, (int, float, Tensor)):
        raise TypeError(f"{owner}: step returned {value!r}; it must return the loss at w, as opt.step(closure) does")
    return float(value.detach()) if isinstance(value, Tensor) else float(value)
