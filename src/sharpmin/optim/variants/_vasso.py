"""VaSSO: climb along the running mean of the gradient."""

from __future__ import annotations

from typing import Unpack

from torch.optim.optimizer import Optimizer

from sharpmin.core.reference import LI_GIANNAKIS_2023
from sharpmin.core.rho import Rho

from .._ascent import Ema
from .._settings import Options
from ..sam import SAM
from ._registry import variant


@variant(LI_GIANNAKIS_2023, when="batches are noisy and e should vary less; modest gains, its authors' alone")
def vasso(base: Optimizer, rho: Rho = 0.05, *, theta: float = 0.2, **options: Unpack[Options]) -> SAM:
    """e = rho a / ||a||, a_t = (1 - theta) a_{t-1} + theta g_t (Li & Giannakis, NeurIPS 2023, arXiv:2309.15639, eq. 4).

    Args:
        base: the optimizer instance that steps.
        rho: the radius, or a schedule.
        theta: the weight of the newest gradient, in (0, 1]; 1 is SAM.
        options: the other keywords of `SAM`, such as `model=`.

    >>> import torch
    >>> vasso(torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)).ascent
    Ema(theta=0.2)
    """
    return SAM(base, rho, ascent=Ema(theta), **options)
