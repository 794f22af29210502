"""What one SAM step did: `opt.last`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class StepReport:
    """The last SAM step in numbers. `None` means that the step had no such number.

    Attributes:
        stepped: whether the base optimizer stepped; False before the first step, and when a gradient was not finite.
        rho: the radius that was asked for, the largest over the groups; after `Unnormalized` and `Capped` had their say.
        radius: the realised `||e||`; measured on the weights where they are float16 or bfloat16, since rounding eats small
            perturbations there.
        dual_norm: `||g||_*`, the dual norm of the first gradient over all groups with rho > 0; None if no group has.
        passes: gradient evaluations of the step, 1 or 2.
        gain: `<e, g> / <asked e, g>`, with one group `<e, g> / (rho ||g||_*)`: the share of the ascent that survives the
            rounding of the weights, 1 in float32 and float64; None if nothing was asked for.
        clean_loss: what the closure returned at w.
        perturbed_loss: what the closure returned at w + e.
    """

    stepped: bool = False
    rho: float = 0.0
    radius: float = 0.0
    dual_norm: float | None = None
    passes: int = 0
    gain: float | None = None
    clean_loss: float | None = None
    perturbed_loss: float | None = None


def read(record: dict[str, Any]) -> StepReport:
    """A report from raw values; tensors become floats here, which is where a device is waited for."""
    values: dict[str, Any] = {k: float(v) if isinstance(v, Tensor) else v for k, v in record.items()}
    gain = values.get("gain")
    return StepReport(**{**values, "gain": None if gain is None or math.isnan(gain) else gain})


def detached(loss: Any) -> Any:
    """What a closure returned, without its graph."""
    return loss.detach() if isinstance(loss, Tensor) else loss
