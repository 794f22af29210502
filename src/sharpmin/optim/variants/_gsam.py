"""GSAM: also ascend along the part of g orthogonal to G, which shrinks the gap between the two losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from sharpmin.core.reference import ZHUANG_2022
from sharpmin.core.rho import Rho, Scalar, finite

from .._numeric.kinds import dense
from .._numeric.sums import inner, sum_of_squares
from .._protocols import Context, Descent, ParameterState
from .._settings import Options
from ..sam import SAM
from ._registry import variant


@dataclass(frozen=True)
class SurrogateGap(Descent):
    """d = G - alpha (g - <g, G> / ||G||^2 G), and 0 where G is; norms are over all parameters with a second gradient.

    >>> g, perturbed = [torch.tensor([1.0, 1.0])], [torch.tensor([2.0, 0.0])]
    >>> SurrogateGap(0.5).coefficients([], g, perturbed, {}, Context())
    (-0.5, 1.25, {})
    """

    alpha: float = 0.4

    def __post_init__(self) -> None:
        finite(self.alpha, "alpha", "SurrogateGap", low=0)

    def coefficients(
        self,
        weights: Sequence[Tensor],
        clean: Sequence[Tensor],
        perturbed: Sequence[Tensor] | None,
        state: ParameterState,
        context: Context,
    ) -> tuple[Scalar, Scalar, ParameterState]:
        """(-alpha, 1 + alpha <g, G> / ||G||^2)."""
        if perturbed is None or self.alpha == 0:
            return float(perturbed is None), float(perturbed is not None), state
        square, along = sum_of_squares(perturbed), inner(list(map(dense, clean)), list(map(dense, perturbed)))
        if isinstance(square, Tensor):
            alpha = self.alpha * (square > 0).to(square.dtype)
            return -alpha, torch.where(square > 0, 1 + alpha * along / square, 1.0), state
        return (-self.alpha, 1 + self.alpha * along / square, state) if square > 0 else (0.0, 1.0, state)


@variant(ZHUANG_2022, when="with vision transformers: its authors report gains over SAM; no reproduction is known to us")
def gsam(base: Optimizer, rho: Rho = 0.05, *, alpha: float = 0.4, **options: Unpack[Options]) -> SAM:
    """d = G - alpha (part of g orthogonal to G) (Zhuang et al., ICLR 2022, arXiv:2203.08065, algorithm 1).

    Descends f(w + e), and without changing that to first order climbs f(w): the gap between them shrinks.

    Args:
        base: the optimizer instance that steps.
        rho: the radius; the paper lets it follow the learning rate: `sharpmin.rho.ProportionalToLR(0.05, lr=0.1)`.
        alpha: the weight of the climb; 0 is SAM.
        options: the other keywords of `SAM`, such as `model=`.

    >>> gsam(torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)).descent
    SurrogateGap(alpha=0.4)
    """
    return SAM(base, rho, descent=SurrogateGap(alpha), **options)
