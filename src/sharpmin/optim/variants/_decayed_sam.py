"""Decayed SAM: rho^2 follows the learning rate."""

from __future__ import annotations

from typing import Unpack

from torch.optim.optimizer import Optimizer

from sharpmin.core.reference import SI_YUN_2023
from sharpmin.core.rho import ProportionalToLR

from .._settings import Options
from ..sam import SAM
from ._registry import variant


@variant(
    SI_YUN_2023,
    when="the training loss itself is the goal and the learning rate decays; proved here; label noise then costs accuracy",
)
def decayed_sam(base: Optimizer, rho: float = 0.05, *, lr: float | None = None, **options: Unpack[Options]) -> SAM:
    """rho_t = rho sqrt(lr_t / lr), so that the floor, of order rho^2, falls with the learning rate.

    The scaling under which stochastic SAM has no floor left above that of SGD, derived here (statement D3) against Si & Yun
    (NeurIPS 2023, arXiv:2306.09850). It decays only if a learning rate schedule does.

    Args:
        base: the optimizer instance that steps.
        rho: the radius at the learning rate `lr`.
        lr: the learning rate that rho was chosen for; by default the present one of the base's first group.
        options: the other keywords of `SAM`, such as `model=`.

    >>> import torch
    >>> decayed_sam(torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)).param_groups[0]["rho"]
    ProportionalToLR(rho=0.05, lr=0.1, power=0.5)
    """
    lr = float(base.param_groups[0]["lr"]) if lr is None else lr
    return SAM(base, ProportionalToLR(rho, lr=lr, power=0.5), **options)
