"""How a base optimizer turns a gradient into a step, and what its weight decay adds to the gradient of the objective.

| base | step | gradient of the objective that it descends |
|---|---|---|
| SGD, momentum b | lr / (1 - b) G | g + wd x |
| Adam | lr P^-1 G, P = sqrt(vhat) + eps | g + wd x |
| AdamW | lr (P^-1 G + wd x) | g + wd P x: where the step is 0, P^-1 G = -wd x |

Another base whose state or groups have averages named like Adam's is treated as Adam, which is a guess.
Groups with learning rates of their own are scaled like Adam's entries: P^-1 of a group is lr of the group over the largest.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from sharpmin.core.rho import Scalar
from sharpmin.optim._numeric.kinds import all_tensors, on_host, plain
from sharpmin.optim._numeric.loops import Factor
from sharpmin.optim._numeric.sums import largest
from sharpmin.optim._numeric.tensors import multiply, quotients, scale_all, square_roots


@dataclass(frozen=True)
class BaseView:
    """Learning rate, momentum, decay and scaling of a base optimizer at this moment."""

    groups: Sequence[Mapping[str, Any]]
    state: Mapping[Tensor, Any]

    def adaptive(self) -> bool:
        """Whether steps are divided by a running root mean square."""
        return any("betas" in group for group in self.groups)

    def lr(self) -> Scalar:
        """The largest learning rate of a group; a tensor if it is on a device."""
        return largest(self._rates()) if self.groups else 0.0

    def scales(self) -> bool:
        """Whether the factor between gradient and step differs between parameters."""
        rates = self._rates()
        return self.adaptive() or (all_tensors(rates) and len(rates) > 1) or len(set(rates)) > 1

    def _rates(self) -> list[Scalar]:
        given = [group.get("lr", 0.0) for group in self.groups]
        return [lr if isinstance(lr, Tensor) and not lr.is_cpu else float(lr) for lr in given]

    def momentum(self) -> float:
        """The momentum of plain SGD, 0 for Adam, whose first moment averages."""
        return 0.0 if self.adaptive() else float(self.groups[0].get("momentum", 0.0)) if self.groups else 0.0

    def averaging(self) -> float:
        """beta1 of an adaptive base: the share of the first moment that the next step keeps; 0 for others."""
        return float(next((group["betas"][0] for group in self.groups if "betas" in group), 0.0))

    def decay(self) -> float:
        """The largest weight decay of a group."""
        return max((float(group.get("weight_decay", 0.0)) for group in self.groups), default=0.0)

    def decayed(self, parameters: Sequence[Tensor]) -> list[Tensor]:
        """What weight decay adds to each gradient of the objective: wd x, or wd P x if it is decoupled."""
        out = [p.detach() for p in parameters]
        for group, rows in self._groups_of(parameters):
            amount = float(group.get("weight_decay", 0.0))
            _put(out, rows, scale_all([out[i] for i in rows], amount))
            if group.get("decoupled_weight_decay") and amount:
                stated, roots = self._roots(parameters, rows, group)
                _put(out, stated, multiply([out[i] for i in stated], roots))
        return out

    def preconditioned(self, parameters: Sequence[Tensor], vectors: Sequence[Tensor]) -> list[Tensor]:
        """P^-1 v for each vector, or v without an Adam state, times its learning rate over the largest one."""
        top, out = self.lr(), list(vectors)
        for group, rows in self._groups_of(parameters):
            stated, roots = self._roots(parameters, rows, group)
            _put(out, stated, quotients([out[i] for i in stated], roots))
            share = _share(group.get("lr", top), top) if len(self.groups) > 1 else 1.0
            if isinstance(share, Tensor) or share != 1.0:
                _put(out, rows, scale_all([out[i] for i in rows], share))
        return out

    def _groups_of(self, parameters: Sequence[Tensor]) -> Iterator[tuple[Mapping[str, Any], list[int]]]:
        """Every group with the indices of its parameters; parameters of no group come with an empty dict."""
        by_id = {id(p): group for group in self.groups for p in group["params"]}
        places: dict[int, tuple[Mapping[str, Any], list[int]]] = {}
        for i, p in enumerate(parameters):
            group = by_id.get(id(p), _NOBODY)
            places.setdefault(id(group), (group, []))[1].append(i)
        yield from places.values()

    def _roots(
        self, parameters: Sequence[Tensor], rows: Sequence[int], group: Mapping[str, Any]
    ) -> tuple[list[int], list[Tensor]]:
        """The rows with an Adam state, and P = sqrt(vhat) + eps for each, bias-corrected."""
        if "betas" not in group or not isinstance(group.get("eps"), Real):
            return [], []
        name = "max_exp_avg_sq" if group.get("amsgrad") else "exp_avg_sq"
        squares = {i: _averages(self.state.get(parameters[i], {}).get(name), parameters[i]) for i in rows}
        second = {i: square for i, square in squares.items() if square is not None}
        if not second:
            return [], []
        steps = [self.state[parameters[i]].get("step", group.get("step", group.get("k", math.inf))) for i in second]
        unbiased = multiply(list(second.values()), _unbias(group["betas"][1], steps))
        return list(second), square_roots(unbiased, float(group["eps"]))


_NOBODY: Mapping[str, Any] = {}


def name_of(optimizer: Optimizer) -> str:
    """The name of an optimizer's class, with its package if torch has another class of this name."""
    kind = type(optimizer)
    namesake = getattr(torch.optim, kind.__name__, kind)
    return kind.__name__ if namesake is kind else f"{kind.__module__.partition('.')[0]}.{kind.__name__}"


def _averages(found: Any, p: Tensor) -> Tensor | None:
    """A running average of the shape of `p`, else None; one of 8 bits or fewer is dequantized."""
    if not isinstance(found, Tensor) or found.shape != p.shape:
        return None
    with contextlib.suppress(RuntimeError):  # a tensor subclass with few operations
        return plain(found)
    return None


def _share(lr: Scalar, top: Scalar) -> Scalar:
    """A learning rate over the largest one; 1 if that is 0."""
    if isinstance(top, Tensor):
        return (lr / top).nan_to_num(nan=1.0)
    return float(lr) / top if top else 1.0


def _unbias(beta: Any, steps: Sequence[Any]) -> list[Factor]:
    """1 / (1 - beta^t) for each step count; a tensor, without waiting, if the count is on a device."""
    if not all_tensors(steps) or on_host(steps):
        return [1 / (1 - float(beta) ** float(t)) for t in steps]
    if len({t.device for t in steps}) > 1:
        return [1 / (1 - beta ** t.double()) for t in steps]
    return list((1 / (1 - beta ** torch.stack(list(steps)).double())).unbind())


def _put(out: list[Tensor], rows: Sequence[int], made: Sequence[Tensor]) -> None:
    for i, t in zip(rows, made, strict=True):
        out[i] = t
