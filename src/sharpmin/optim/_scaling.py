"""Loss scaling: both gradients of a step pass through one `GradScaler`, which knows one unscaling per optimizer and update.

A scaler keeps its records by optimizer object, and halves its scale if any record of the update saw an inf. SAM is two
objects, itself and its base: the first pass is unscaled under the base's name, the second under SAM's own, by the user's
`scaler.unscale_(opt)` or by `scaler.step(opt)`. If the first pass came unscaled already, the names change places.

With a perturbation for each micro-batch there are more first passes than names: they are divided by the scale for the
ascent alone, and stay scaled where they accumulate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.amp.grad_scaler import OptState
from torch.optim.optimizer import Optimizer

from sharpmin.core.rho import Scalar

from ._numeric.tensors import on_host, wide


@dataclass
class Scaling:
    """One step under a scaler.

    Attributes:
        scaler: a `torch.amp.GradScaler`.
        opt: the SAM.
        base: its base.
        once: whether the scaler unscales the one first pass of the step.
        swapped: whether that was done under SAM's name.
    """

    scaler: Any
    opt: Optimizer
    base: Optimizer
    once: bool = True
    swapped: bool = False

    def first(self) -> None:
        """Unscale the gradients of the first pass, unless that has been done."""
        if not self.once:
            return
        record = self.scaler._per_optimizer_states.get(id(self.opt))
        self.swapped = record is not None and record["stage"] is OptState.UNSCALED
        if not self.swapped:
            self.scaler.unscale_(self.base)

    def second(self) -> None:
        """Unscale the gradients of the second pass, where nobody else will."""
        if self.swapped:
            self.scaler.unscale_(self.base)


def factor(scaler: Any, grads: Sequence[Tensor]) -> Scalar:
    """The scale: a float where reading it costs nothing, else a tensor of shape ()."""
    if on_host(grads):
        return float(scaler.get_scale())
    return scaler.scale(torch.ones((), device=grads[0].device)).double()


def scaled(grads: Sequence[Tensor], scaler: Any) -> list[Tensor]:
    """The gradients times the scale, without a read from a device."""
    return [(wide(g) * scaler.scale(torch.ones((), device=g.device))).to(g.dtype) for g in grads]


def unscaled(grads: Sequence[Tensor | None], scaler: Any) -> list[Tensor | None]:
    """The gradients over the scale, in float32 at least, without a read from a device."""
    return [None if g is None else wide(g) / scaler.scale(torch.ones((), device=g.device)) for g in grads]


def enabled(scaler: Any) -> bool:
    """Whether there is a scaler that scales.

    Raises:
        TypeError: if it is no scaler.
    """
    if scaler is None:
        return False
    if not callable(getattr(scaler, "unscale_", None)) or not callable(getattr(scaler, "is_enabled", None)):
        raise TypeError(
            f"perturbed: scaler={scaler!r} is a {type(scaler).__name__}; give the torch.amp.GradScaler of this loop"
        )
    return bool(scaler.is_enabled())
