"""SAM on every k-th step, with a radius that grows with k."""

from __future__ import annotations

from typing import Unpack

from torch.optim.optimizer import Optimizer

from sharpmin.core.reference import FORET_2021
from sharpmin.core.rho import Every, finite, positive_integer

from .._settings import Options
from ..sam import SAM
from ._registry import variant


@variant(FORET_2021, when="two passes cost too much: 1 + 1/k a step; one industrial laboratory, and rho ~ k is folklore")
def every_k_sam(base: Optimizer, rho: float = 0.05, *, k: int = 10, **options: Unpack[Options]) -> SAM:
    """e = k rho g / ||g|| on the steps 0, k, 2k, ..., the base's step between (SAM: Foret et al., 2021, arXiv:2010.01412).

    That the radius grows in proportion to k is folklore, not theory: MosaicML's Composer advises it, and used 0.5 with
    `interval=10`, which is `rho=0.05` here (method card of its SAM; its own defaults are interval 1 and rho 0.05). For a
    radius that does not grow, or for a schedule of it, write `SAM(base, rho=Every(rho, k))`.

    A closure runs once on the steps between; around a block, `if opt.needs_second_pass:` saves its pass.

    Args:
        base: the optimizer instance that steps.
        rho: the radius that SAM would have on every step.
        k: how many steps share a second pass; 1 is SAM.
        options: the other keywords of `SAM`, such as `model=`.

    Raises:
        TypeError, ValueError: if rho is no finite number >= 0, or k no integer >= 1.

    >>> import torch
    >>> every_k_sam(torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)).param_groups[0]["rho"]
    Every(rho=0.5, k=10)
    """
    radius = finite(rho, "rho", "every_k_sam", low=0) * positive_integer(k, "k", "every_k_sam")
    return SAM(base, Every(radius, k), **options)
