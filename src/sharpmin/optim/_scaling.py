"""Loss scaling: a `GradScaler` unscales once per optimizer and update, but a SAM step has two gradients to unscale.

A scaler keeps its records by optimizer object, and halves its scale if any record of the update saw an inf. SAM is two
objects, itself and its base: the first pass is unscaled under the base's name, the second under SAM's own, by the user's
`scaler.unscale_(opt)` or by `scaler.step(opt)`. If the user has unscaled the first pass already, the names are swapped.

With a perturbation for each micro-batch there are more first passes than names: these gradients are divided by
the scale for the ascent only, and accumulate scaled.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.amp.grad_scaler import OptState
from torch.optim.optimizer import Optimizer

from sharpmin.core.errors import PhaseError
from sharpmin.core.rho import Scalar

from ._numeric.kinds import on_host
from ._numeric.tensors import on_present, scale_all


@dataclass
class Scaling:
    """The scaler of one step, and how it knows the two optimizers.

    Attributes:
        scaler: a `torch.amp.GradScaler`.
        key: the object by which the scaler knows SAM.
        base: SAM's base.
        once: whether the scaler unscales the one first pass of the step.
        swapped: whether the first pass was unscaled under SAM's name, by the user.
    """

    scaler: Any
    key: int
    base: Optimizer
    once: bool
    swapped: bool = False

    @classmethod
    def of(cls, scaler: Any, opt: Optimizer, base: Optimizer, *, once: bool) -> Scaling:
        """For a step that begins; its first gradient may have been unscaled already if `once`.

        Raises:
            PhaseError: if gradients of a micro-batch have been unscaled.
        """
        scaling = cls(scaler, id(opt), base, once)
        unscaled = scaling.unscaled(id(opt))
        scaling.swapped = once and unscaled
        if unscaled and not once:
            raise PhaseError(
                'scaler.unscale_(opt) came before the block of a micro-batch: in scope="microbatch" gradients stay scaled '
                "while they accumulate; call it once, after the last block, or leave it to scaler.step(opt)"
            )
        return scaling

    def unscaled(self, key: int) -> bool:
        """Whether the gradients were unscaled under SAM's name, by the user or by `scaler.step(opt)`."""
        record = getattr(self.scaler, "_per_optimizer_states", {}).get(key)
        return record is not None and record["stage"] is OptState.UNSCALED

    def first(self) -> None:
        """Unscale the gradients of the first pass unless the user did."""
        if self.once and not self.swapped:
            self.scaler.unscale_(self.base)

    def second(self) -> None:
        """Unscale the gradients of the second pass if `scaler.step(opt)` will not."""
        if self.swapped:
            self.scaler.unscale_(self.base)

    def back(self, first: Sequence[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
        """Scale the first gradients again on a step without a second pass, since `scaler.step(opt)` will unscale them."""
        if not self.once or self.swapped:
            return list(first)
        return list(zip([p for p, _ in first], scaled([g for _, g in first], self.scaler), strict=True))

    def mark_overflow(self, norms: Scalar, grads: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Add 0 * norm, nan if the norm is not finite, so that the scaler sees an overflow of an earlier micro-batch."""
        if not self.once and isinstance(norms, Tensor):
            for _, grad in grads[:1]:
                grad.add_((norms * 0).to(grad))

    def require_step_by_scaler(self, opt: Optimizer) -> None:
        """Refuse a plain `opt.step()`, before which the gradients of the second pass would stay scaled.

        `opt` is the object whose `step` is called; it may be a proxy of the SAM, such as Lightning's.

        Raises:
            PhaseError: if `opt.step()` was called by the user.
        """
        if not self.unscaled(id(opt)) and hasattr(self.scaler, "_per_optimizer_states"):
            raise PhaseError(
                "step() came after perturbed(scaler), and the gradients are still scaled; let the scaler step: "
                "scaler.step(opt); scaler.update()"
            )

    def forget(self) -> None:
        """Allow the next step to unscale anew after an abort; an overflow that was seen is kept for `scaler.update()`."""
        records = getattr(self.scaler, "_per_optimizer_states", {})
        for key in (self.key, id(self.base)):
            if key in records:
                records[key]["stage"] = OptState.READY


def refuse_scaler_step(call: str, fix: str) -> None:
    """Refuse a call by `scaler.step(opt)` when the block had to get the scaler before.

    Raises:
        PhaseError: if a `GradScaler` is making this call.
    """
    frame = sys._getframe(1)
    for _ in range(_DEEP):
        if frame.f_code is _SCALER_STEP:
            raise PhaseError(f"scaler.step(opt) came {call}, so one pass alone knows of the scaler; {fix}")
        if frame.f_back is None:
            return
        frame = frame.f_back


_SCALER_STEP = torch.amp.GradScaler._maybe_opt_step.__code__
_DEEP = 12  # frames of decorators between the scaler and `step`


def factor(scaler: Any, grads: Sequence[Tensor]) -> Scalar:
    """The scale: a float where reading it costs nothing, else a tensor of shape ()."""
    if on_host(grads):
        return float(scaler.get_scale())
    return scaler.scale(torch.ones((), device=grads[0].device)).double()


def scaled(grads: Sequence[Tensor], scaler: Any) -> list[Tensor]:
    """The gradients times the scale, without a read from a device; in half precision, as a scaler leaves them."""
    return [t.to(g.dtype) for t, g in zip(_times_scale(grads, scaler, 1), grads, strict=True)]


def unscaled(grads: Sequence[Tensor | None], scaler: Any) -> list[Tensor | None]:
    """The gradients over the scale, in float32 at least, without a read from a device."""
    return on_present(lambda there: _times_scale(there, scaler, -1), grads)


def _times_scale(grads: Sequence[Tensor], scaler: Any, power: int) -> list[Tensor]:
    """The gradients times the scale to this power, in float32 at least."""
    by: dict[torch.device, list[int]] = {}
    for i, g in enumerate(grads):
        by.setdefault(g.device, []).append(i)
    out = list(grads)
    for device, rows in by.items():
        scale = scaler.scale(torch.ones((), device=device)) ** power
        for i, t in zip(rows, scale_all([grads[i] for i in rows], scale), strict=True):
            out[i] = t
    return out


def enabled(scaler: Any) -> bool:
    """Whether `scaler` is a scaler that is enabled.

    Raises:
        TypeError: if it is neither None nor a scaler.
    """
    if scaler is None:
        return False
    if not callable(getattr(scaler, "unscale_", None)) or not callable(getattr(scaler, "is_enabled", None)):
        raise TypeError(
            f"perturbed: scaler={scaler!r} is a {type(scaler).__name__}; give the torch.amp.GradScaler of this loop"
        )
    return bool(scaler.is_enabled())
