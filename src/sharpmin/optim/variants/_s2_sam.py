"""S2-SAM: perturb along the previous step's gradient, so that a step needs one pass."""

from __future__ import annotations

from typing import Unpack

from torch.optim.optimizer import Optimizer

from sharpmin.core.reference import FORET_2021, JI_2024
from sharpmin.core.rho import Rho

from .._ascent import PreviousGradient
from .._settings import Options
from ..sam import SAM
from ._registry import variant


@variant(JI_2024, FORET_2021, when="one pass is all there is, with a base of any kind; its authors alone, on sparse networks")
def s2_sam(base: Optimizer, rho: Rho = 0.05, **options: Unpack[Options]) -> SAM:
    """e_t = rho G_{t-1} / ||G_{t-1}||, G_t = grad f(w_t + e_t) (Ji et al., NeurIPS 2024; SAM: arXiv:2010.01412).

    The first step is the base's. Write the block alone, or hand over a closure, which runs once.

    Args:
        base: the optimizer instance that steps.
        rho: the radius, or a schedule.
        options: the other keywords of `SAM`, such as `model=`.

    >>> import torch
    >>> s2_sam(torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)).ascent
    PreviousGradient()
    """
    return SAM(base, rho, ascent=PreviousGradient(), **options)
