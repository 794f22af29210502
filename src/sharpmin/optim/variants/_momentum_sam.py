"""Momentum-SAM (MSAM): perturb against the base's momentum, so that a step needs one pass."""

from __future__ import annotations

from typing import Unpack

from torch.optim.optimizer import Optimizer

from sharpmin.core.reference import BECKER_2024
from sharpmin.core.rho import Rho

from .._ascent import Momentum
from .._settings import Options
from ..sam import SAM
from ._registry import variant


@variant(BECKER_2024, when="one pass is all there is, and the base has momentum; evidence by its authors alone")
def momentum_sam(base: Optimizer, rho: Rho = 0.05, **options: Unpack[Options]) -> SAM:
    """e = -rho m / ||m||, m the base's momentum (Becker, Altrock & Risse, 2024, arXiv:2401.12033, algorithm 1).

    The first step has no momentum and is the base's. Write the block alone, or hand over a closure, which runs once.

    Args:
        base: the optimizer instance that steps, with momentum.
        rho: the radius, or a schedule.
        options: the other keywords of `SAM`, such as `model=`.

    Raises:
        ValueError: if the base keeps no momentum.

    >>> import torch
    >>> momentum_sam(torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1, momentum=0.9)).ascent
    Momentum()
    """
    return SAM(base, rho, ascent=Momentum(), **options)
