"""USAM: SAM without normalization."""

from __future__ import annotations

from typing import Unpack

from torch.optim.optimizer import Optimizer

from sharpmin.core.reference import ANDRIUSHCHENKO_2022
from sharpmin.core.rho import Rho, Unnormalized

from .._settings import Options
from ..sam import SAM
from ._registry import variant


@variant(ANDRIUSHCHENKO_2022, when="the minimum itself is the goal and beta rho < 1 is known to hold; evidence from theory")
def usam(base: Optimizer, rho: Rho = 0.05, **options: Unpack[Options]) -> SAM:
    """e = rho g (Andriushchenko & Flammarion, ICML 2022, arXiv:2206.06232).

    The perturbation vanishes with the gradient, so nothing is left O(rho^2) away (statement U1, for beta rho < 1).

    Args:
        base: the optimizer instance that steps.
        rho: the factor, in units of w / g, or a schedule of it.
        options: the other keywords of `SAM`, such as `model=`.

    >>> import torch
    >>> usam(torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)).param_groups[0]["rho"]
    Unnormalized(rho=0.05)
    """
    return SAM(base, Unnormalized(rho), **options)
