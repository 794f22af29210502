"""The largest Hessian eigenvalue of the training loss at the end of a run."""

from __future__ import annotations

import math

from torch import Tensor, nn

from sharpmin.diagnostics import hessian_spectrum

from ._data import Setting


def eigenvalue(setting: Setting, model: nn.Module, x: Tensor, y: Tensor) -> float:
    """The largest one, not the largest in size; nan where the loss has no finite Hessian, as in a run that is lost."""

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return setting.objective(model, outputs, targets)

    try:
        return hessian_spectrum(model, loss, [(x, y)], which="largest").largest[0]
    except ValueError:
        return math.nan
