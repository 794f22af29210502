"""What one SAM step did: `opt.last`."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from sharpmin.core.text import block


@dataclass(frozen=True)
class StepReport:
    """The last SAM step in numbers. `None` means that the step had no such number.

    Attributes:
        stepped: whether the base optimizer stepped; False before the first step, and when a gradient was not finite.
        rho: the radius that was asked for, the largest over the groups. Under `Unnormalized` and `Capped` it depends on
            the norm.
        radius: the realized `||e||`: measured on the weights or, where `measured` is False, the one that was asked for.
        dual_norm: `||a||_*`, the dual norm of the ascent's vector, by default the first gradient, over all groups with rho > 0;
            None if there is no such group.
        passes: gradient evaluations of the step, 1 or 2.
        gain: `<e, g> / <asked e, g>`, with one group `<e, g> / (rho ||g||_*)`: the share of the ascent that survives the
            rounding of the weights, 1 in float32 and float64; None if nothing was asked for, or it was not measured.
        clean_loss: what the closure returned at w.
        perturbed_loss: what the closure returned at w + e.
        cosine: of the two gradients, `<G, g> / (||G|| ||g||)`; this and what follows with `telemetry=True` only.
        amplification: `<G - g, g> / ||g||^2`, by how much a step along G descends faster than one along g.
        curvature: `<G - g, e> / ||e||^2`, of the loss along e.
        smoothness: `||G - g|| / ||e||`, a lower bound of the smoothness of the loss of this batch.
        measured: whether radius and gain were measured on the weights. That is done where they are float16, bfloat16 or
            int8, since rounding eats small perturbations there, on the first two steps, on every 64th, and on all with
            `telemetry=True`; elsewhere e is what was asked for.
        steps: how many steps the run has taken; `climbed`: how many of them had their second pass, or their only one, at
            w + e. Where a schedule or rho = 0 kept all of them at w, that is 0, and the run was one of the base optimizer. On
            an accelerator a zero gradient counts, too: it would have to be read.
        total_passes: the sum of `passes` over these steps: what the run has cost, where the base alone costs `steps`.
    """

    stepped: bool = False
    rho: float = 0.0
    radius: float = 0.0
    dual_norm: float | None = None
    passes: int = 0
    gain: float | None = None
    clean_loss: float | None = None
    perturbed_loss: float | None = None
    cosine: float | None = None
    amplification: float | None = None
    curvature: float | None = None
    smoothness: float | None = None
    measured: bool = False
    steps: int = 0
    climbed: int = 0
    total_passes: int = 0

    def __str__(self) -> str:
        """The fields that the step has.

        >>> print(StepReport(True, 0.05, 0.05, 0.14321671, 2, None, 0.03574, 0.04393, steps=400, climbed=400, total_passes=800))
        SAM step 400
          rho             0.05
          radius          0.05     as asked for, not measured
          dual_norm       0.1432
          passes          2
          clean_loss      0.03574
          perturbed_loss  0.04393
          climbed         400      of 400 steps
          total_passes    800
        """
        if not self.passes:
            return "SAM: no step has been taken"
        remarks = {
            "radius": ("" if self.measured else "as asked for, not measured",),
            "climbed": (f"of {self.steps} steps",),
        }
        names = (f.name for f in fields(self) if f.name not in ("stepped", "measured", "steps"))
        rows = [(name, getattr(self, name), *remarks.get(name, ())) for name in names]
        title = f"SAM step {self.steps}" if self.stepped else f"SAM after {self.steps} steps: the base did not step"
        return block(title, rows)


_RATIOS = ("gain", "cosine", "amplification", "curvature", "smoothness")  # nan on a device for 0 / 0


def read(record: dict[str, Any]) -> StepReport:
    """Make a report from raw values; converting tensors to floats waits for the device."""
    values: dict[str, Any] = {k: float(v) if isinstance(v, Tensor) else v for k, v in record.items()}
    unknown = {k: None for k in _RATIOS if isinstance(values.get(k), float) and math.isnan(values[k])}
    return StepReport(**{**values, **unknown})


def detached(loss: Any) -> Any:
    """The return value of a closure, detached if it is a tensor."""
    return loss.detach() if isinstance(loss, Tensor) else loss
