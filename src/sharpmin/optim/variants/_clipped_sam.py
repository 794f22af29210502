"""Clipped SAM: G - g is cut down to less than the norm of g."""

from __future__ import annotations

from typing import Unpack

from torch.optim.optimizer import Optimizer

from sharpmin.core.reference import FORET_2021, SI_YUN_2023
from sharpmin.core.rho import Rho

from .._descent import ClippedDifference
from .._settings import Options
from ..sam import SAM
from ._registry import variant


@variant(FORET_2021, SI_YUN_2023, when="nobody tuned rho: a far too large one does no harm; proved here, tried in small runs")
def clipped_sam(base: Optimizer, rho: Rho = 0.05, *, theta: float = 0.5, **options: Unpack[Options]) -> SAM:
    """d = g + min(1, theta ||g|| / ||G - g||) (G - g), with g at w and G at w + e.

    SAM as long as `||G - g|| <= theta ||g||`; near a stationary point the constant rho would dominate, and is cut down.
    Derived here against the floor that Si & Yun (NeurIPS 2023, arXiv:2306.09850) show: deterministic, it converges all the
    way whatever rho and whatever the smoothness (statement R2). Keeps the first gradient through the second pass.

    Args:
        base: the optimizer instance that steps.
        rho: the radius, or a schedule.
        theta: the largest share of the difference, in (0, 1).
        options: the other keywords of `SAM`, such as `model=`.

    >>> import torch
    >>> clipped_sam(torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)).descent
    ClippedDifference(theta=0.5)
    """
    return SAM(base, rho, descent=ClippedDifference(theta), **options)
