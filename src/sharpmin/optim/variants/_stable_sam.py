"""Stable SAM: the direction of the perturbed gradient, the length of the gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from sharpmin.core.reference import TAN_2025
from sharpmin.core.rho import Rho, Scalar

from .._numeric.sums import sum_of_squares
from .._protocols import Context, Descent, ParameterState
from .._settings import Options
from ..sam import SAM
from ._registry import variant


@dataclass(frozen=True)
class Renormalized(Descent):
    """d = ||g|| / ||G|| G, and 0 where G is; norms are over all parameters with a second gradient.

    >>> Renormalized().coefficients([], [torch.tensor([3.0])], [torch.tensor([-4.0])], {}, Context())
    (0.0, 0.75, {})
    """

    def coefficients(
        self,
        weights: Sequence[Tensor],
        clean: Sequence[Tensor],
        perturbed: Sequence[Tensor] | None,
        state: ParameterState,
        context: Context,
    ) -> tuple[Scalar, Scalar, ParameterState]:
        """(0, ||g|| / ||G||)."""
        if perturbed is None:
            return 1.0, 0.0, state
        square, whole = sum_of_squares(clean), sum_of_squares(perturbed)
        if isinstance(whole, Tensor):
            return 0.0, torch.where(whole > 0, (square / whole) ** 0.5, 1.0), state
        return 0.0, (square / whole) ** 0.5 if whole > 0 else 1.0, state


@variant(
    TAN_2025,
    when="SAM is unstable at the learning rate that suits the base; evidence by its authors alone",
)
def stable_sam(base: Optimizer, rho: Rho = 0.05, **options: Unpack[Options]) -> SAM:
    """d = ||g|| / ||G|| G (Tan et al., Stabilizing SAM Through A Simple Renormalization Strategy, 2025, arXiv:2401.07250).

    Args:
        base: the optimizer instance that steps; one that normalizes, such as Adam, undoes most of it.
        rho: the radius, or a schedule.
        options: the other keywords of `SAM`, such as `model=`.

    >>> stable_sam(torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)).descent
    Renormalized()
    """
    return SAM(base, rho, descent=Renormalized(), **options)
