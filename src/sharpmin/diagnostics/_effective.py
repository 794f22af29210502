"""What a base optimizer makes of a gradient: the step per unit of gradient, and what weight decay adds to the objective.

| base | step | gradient of the objective that it descends |
|---|---|---|
| SGD, momentum b | lr / (1 - b) G | g + wd x |
| Adam | lr P^-1 G, P = sqrt(vhat) + eps | g + wd x |
| AdamW | lr (P^-1 G + wd x) | g + wd P x: where the step is 0, P^-1 G = -wd x |

Groups with learning rates of their own are scaled like Adam's entries: P^-1 of a group is lr of the group over the largest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sharpmin.optim._numeric.kinds import at_least_float32


@dataclass(frozen=True)
class Base:
    """The base optimizer's view of a list of parameters, at this moment."""

    groups: Sequence[Mapping[str, Any]]
    state: Mapping[Tensor, Any]

    def adaptive(self) -> bool:
        """Whether steps are divided by a running root mean square."""
        return any("betas" in group for group in self.groups)

    def lr(self) -> float:
        """The largest learning rate of a group."""
        return max(self._rates(), default=0.0)

    def scales(self) -> bool:
        """Whether a step is another multiple of the gradient for some parameters than for others."""
        return self.adaptive() or len(set(self._rates())) > 1

    def _rates(self) -> list[float]:
        return [float(group["lr"]) for group in self.groups]

    def momentum(self) -> float:
        """The momentum of plain SGD, 0 for Adam, whose first moment averages."""
        return 0.0 if self.adaptive() else float(self.groups[0].get("momentum", 0.0)) if self.groups else 0.0

    def decay(self) -> float:
        """The weight decay of the first group that has one."""
        return max((float(group.get("weight_decay", 0.0)) for group in self.groups), default=0.0)

    def decayed(self, parameters: Sequence[Tensor]) -> list[Tensor]:
        """What weight decay adds to each gradient of the objective: wd x, or wd P x where it is decoupled."""
        by_id = {id(p): group for group in self.groups for p in group["params"]}
        out = []
        for p in parameters:
            group = by_id.get(id(p), {})
            amount = float(group.get("weight_decay", 0.0))
            term = p.detach() * amount
            out.append(term * self._root(p, group) if group.get("decoupled_weight_decay") and amount else term)
        return out

    def preconditioned(self, parameters: Sequence[Tensor], vectors: Sequence[Tensor]) -> list[Tensor]:
        """P^-1 v for each, v itself without an Adam state, times the share that its learning rate is of the largest."""
        by_id = {id(p): group for group in self.groups for p in group["params"]}
        largest, out = self.lr() or 1.0, []
        for p, v in zip(parameters, vectors, strict=True):
            group = by_id.get(id(p), {})
            out.append(v / self._root(p, group) * (float(group.get("lr", largest)) / largest))
        return out

    def _root(self, parameter: Tensor, group: Mapping[str, Any]) -> Tensor | float:
        """P = sqrt(vhat) + eps, with the bias of v corrected."""
        own = self.state.get(parameter, {})
        if "exp_avg_sq" not in own:
            return 1.0
        correction = 1 - group["betas"][1] ** float(own["step"])
        second: Tensor = own["max_exp_avg_sq"] if group.get("amsgrad") else own["exp_avg_sq"]
        return torch.sqrt(at_least_float32(second) / correction) + float(group["eps"])
