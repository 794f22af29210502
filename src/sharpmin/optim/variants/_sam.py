"""SAM: constant radius, normalized perturbation, the L2 ball."""

from __future__ import annotations

from typing import Unpack

from torch.optim.optimizer import Optimizer

from sharpmin.core.reference import FORET_2021
from sharpmin.core.rho import Rho

from .._settings import Options
from ..sam import SAM
from ._registry import variant


@variant(FORET_2021, when="start here, and tune rho; the evidence of many laboratories is for this one")
def sam(base: Optimizer, rho: Rho = 0.05, **options: Unpack[Options]) -> SAM:
    """e = rho g / ||g||_2 (Foret et al., ICLR 2021, arXiv:2010.01412, eq. 2).

    Args:
        base: the optimizer instance that steps.
        rho: the radius, or a schedule.
        options: the other keywords of `SAM`, such as `model=`.

    >>> import torch
    >>> sam(torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)).param_groups[0]["rho"]
    0.05
    """
    return SAM(base, rho, **options)
