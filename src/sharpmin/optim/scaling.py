"""Loss scaling: both gradients of a step pass through one `GradScaler`, which knows one unscaling per optimizer and update.

A scaler keeps its records by optimizer object, and halves its scale if any record of the update saw an inf. SAM is two
objects, itself and its base: the first pass is unscaled under the base's name, the second under SAM's own, by the user's
`scaler.unscale_(opt)` or by `scaler.step(opt)`. If the first pass came unscaled already, the names change places.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch.amp.grad_scaler import OptState
from torch.optim.optimizer import Optimizer


@dataclass
class Scaling:
    """One step under a scaler.

    Attributes:
        scaler: a `torch.amp.GradScaler`.
        opt: the SAM.
        base: its base.
        swapped: whether the first pass was unscaled under SAM's name.
    """

    scaler: Any
    opt: Optimizer
    base: Optimizer
    swapped: bool = False

    def first(self) -> None:
        """Unscale the gradients of the first pass, unless that has been done."""
        record = self.scaler._per_optimizer_states.get(id(self.opt))
        self.swapped = record is not None and record["stage"] is OptState.UNSCALED
        if not self.swapped:
            self.scaler.unscale_(self.base)

    def second(self) -> None:
        """Unscale the gradients of the second pass, where nobody else will."""
        if self.swapped:
            self.scaler.unscale_(self.base)


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
