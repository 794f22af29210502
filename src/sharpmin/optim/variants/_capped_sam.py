"""Capped SAM: the radius never exceeds a multiple of the gradient norm."""

from __future__ import annotations

from typing import Unpack

from torch.optim.optimizer import Optimizer

from sharpmin.core.reference import SI_YUN_2023
from sharpmin.core.rho import Capped, Rho

from .._settings import Options
from ..sam import SAM
from ._registry import variant


@variant(SI_YUN_2023, when="the minimum itself is the goal, with SAM as usual far from it; proved here, not tried at scale")
def capped_sam(base: Optimizer, rho: Rho = 0.05, *, c: float, **options: Unpack[Options]) -> SAM:
    """e = min(rho, c ||g||) g / ||g||: SAM far from stationarity, USAM close to it.

    Derived here against the floor that Si & Yun (NeurIPS 2023, arXiv:2306.09850) show for constant rho: deterministic,
    with beta c < 1, statement U1 holds with c for rho.

    Args:
        base: the optimizer instance that steps.
        rho: the radius, or a schedule.
        c: the cap per unit of gradient norm; below 1 / beta to converge all the way.
        options: the other keywords of `SAM`, such as `model=`.

    >>> import torch
    >>> capped_sam(torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1), c=0.5).param_groups[0]["rho"]
    Capped(rho=0.05, c=0.5)
    """
    return SAM(base, Capped(rho, c), **options)
