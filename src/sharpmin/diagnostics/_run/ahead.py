"""The future learning rates of a scheduler, from a copy of it that steps on groups without parameters."""

from __future__ import annotations

import copy
import math
import warnings
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Any

from torch.optim.optimizer import Optimizer

DOUBLINGS = 8
"""How far a row looks ahead: 1, 2, 4, ... and at most 2^7 times the steps of its block."""


def scheduler_of(given: Any, owner: str) -> Any:
    """The scheduler of torch, unwrapped if Accelerate wraps it.

    Raises:
        TypeError: if it is no scheduler, or its steps need a loss.
    """
    inner = getattr(given, "scheduler", given)
    if not callable(getattr(inner, "step", None)) or not isinstance(_calls(inner), int):
        raise TypeError(
            f"{owner}: scheduler={given!r} is no scheduler of torch; give the one that the loop steps, or leave it out"
        )
    if hasattr(inner, "mode_worse") or hasattr(inner, "num_bad_epochs"):
        raise TypeError(f"{owner}: the next rates of a {type(inner).__name__} depend on future losses; leave scheduler= out")
    return inner


class Ahead:
    """The learning rates of a scheduler from its present state on.

    Args:
        scheduler: that of the run; it is only read.

    >>> import torch
    >>> opt = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    >>> ahead = Ahead(torch.optim.lr_scheduler.StepLR(opt, 2, gamma=0.1))
    >>> [round(lr, 6) for lr in ahead.rates(5)], opt.param_groups[0]["lr"]
    ([1.0, 1.0, 0.1, 0.1, 0.01], 1.0)
    """

    def __init__(self, scheduler: Any):
        self._own, self._from = scheduler, _calls(scheduler)
        self._copy: Any = None
        self._known: deque[float] = deque()
        self._at = self._from

    def rates(self, ticks: int) -> list[float]:
        """The next learning rates, the present one first; fewer if the schedule ends."""
        now = _calls(self._own)
        while self._known and self._at < now:
            self._known.popleft()
            self._at += 1
        if self._copy is None or self._at != now or not self._known or self._known[0] != _largest(self._own.optimizer):
            self._copy, self._at = _detached(self._own), now
            self._known = deque([_largest(self._copy.optimizer)])
        while len(self._known) < ticks and self._step():
            self._known.append(_largest(self._copy.optimizer))
        return list(islice(self._known, ticks))

    def _step(self) -> bool:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._copy.step()
        except ValueError:  # a schedule that ends, such as OneCycleLR
            return False
        return True

    def sums(self, block: int, seen: int) -> list[float]:
        """The sums of the learning rates over the next 1, 2, 4, ... blocks of steps.

        Args:
            block: steps a block.
            seen: the steps since this object was made, from which the steps per call of the scheduler follow.
        """
        calls = _calls(self._own) - self._from
        each = max(1, round(seen / calls)) if calls else max(1, seen)
        farthest = block * 2 ** (DOUBLINGS - 1)
        rates = self.rates(-(-farthest // each))
        return [_sum(rates, block * (1 << i), each) for i in range(DOUBLINGS)]


def _sum(rates: list[float], steps: int, each: int) -> float:
    """The sum over `steps` steps, each rate lasting for `each` steps and the last one until the end."""
    whole, rest = divmod(steps, each)
    known = rates[:whole]
    last = rates[whole] if whole < len(rates) else rates[-1]
    return each * (math.fsum(known) + rates[-1] * (whole - len(known))) + rest * last


def between(sums: Sequence[float], block: int, steps: int) -> float:
    """The sum over the next steps, interpolated from the sums over 1, 2, 4, ... blocks.

    >>> between([10.0, 15.0, 20.0], 10, 15), between([10.0, 15.0], 10, 5), between([10.0, 15.0], 10, 40)
    (12.5, 5.0, 25.0)
    """
    at = [0, *(block * (1 << i) for i in range(len(sums)))]
    values = [0.0, *sums]
    i = next((i for i, end in enumerate(at) if end >= steps), len(at) - 1)
    slope = (values[i] - values[i - 1]) / (at[i] - at[i - 1])
    return max(0.0, values[i] + slope * (steps - at[i]))


def _calls(scheduler: Any) -> Any:
    """How often a scheduler has stepped; for a ChainedScheduler, how often those inside have."""
    return getattr(getattr(scheduler, "_schedulers", [scheduler])[0], "last_epoch", None)


def _largest(optimizer: Any) -> float:
    rates: list[float] = [float(group["lr"]) for group in optimizer.param_groups]
    return max(rates)


class _Groups(Optimizer):
    """An optimizer without parameters, whose groups a scheduler can change."""

    def __init__(self, groups: Sequence[dict[str, Any]]):
        self.param_groups = [
            {k: copy.deepcopy(v) for k, v in group.items() if k != "params"} | {"params": []} for group in groups
        ]
        self.defaults: dict[str, Any] = {}
        self._opt_called = True


def _detached(scheduler: Any) -> Any:
    """A copy of a scheduler, and of those inside it, with its own groups instead of the optimizer of the run."""
    optimizer = scheduler.optimizer
    stand = _Groups(optimizer.param_groups)
    memo: dict[int, Any] = {id(optimizer): stand}
    for inner in getattr(scheduler, "_schedulers", ()):
        memo[id(inner.optimizer)] = stand
    return copy.deepcopy(scheduler, memo)
