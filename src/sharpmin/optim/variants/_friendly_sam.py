"""Friendly SAM: climb along what is new in this batch's gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Unpack

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from sharpmin.core.reference import LI_2024
from sharpmin.core.rho import Rho, finite

from .._numeric.tensors import at_least_float32, dense
from .._protocols import Ascent, Context, ParameterState
from .._settings import Options
from ..sam import SAM
from ._registry import variant


@dataclass(frozen=True)
class Residual(Ascent):
    """a_t = g_t - sigma m_t with m_t = decay m_{t-1} + (1 - decay) g_t and m_0 = 0: the gradient without its running mean.

    m is one parameter-sized state, which travels in `state_dict`. A gradient that never changes leaves rounding noise.

    >>> w, ascent = torch.zeros(1), Residual(decay=0.5)
    >>> (a,), state = ascent.update([w], [torch.ones(1)], {}, Context())
    >>> a, ascent.update([w], [torch.ones(1)], state, Context())[0]
    (tensor([0.5000]), [tensor([0.2500])])
    """

    stateful: ClassVar[bool] = True
    sigma: float = 1.0
    decay: float = 0.9

    def __post_init__(self) -> None:
        finite(self.sigma, "sigma", "Residual", low=0)
        if finite(self.decay, "decay", "Residual", low=0) >= 1:
            raise ValueError(f"Residual: decay={self.decay!r}; decay must be in [0, 1)")

    def update(
        self, weights: Sequence[Tensor], grads: Sequence[Tensor | None], state: ParameterState, context: Context
    ) -> tuple[Sequence[Tensor | None], ParameterState]:
        """The residuals; a parameter without a gradient keeps its mean and stays, one that is not finite leaves it alone."""
        new, vectors = dict(state), list[Tensor | None]()
        for w, grad in zip(weights, grads, strict=True):
            if grad is None:
                vectors.append(None)
                continue
            g = at_least_float32(dense(grad))
            before = state[w] if w in state else torch.zeros_like(g)
            m = before * self.decay + g * (1 - self.decay)
            vectors.append(g - m * self.sigma)
            new[w] = torch.where(torch.isfinite(m).all(), m, before)
        return vectors, new


@variant(LI_2024, when="batches are small and noisy; its authors gain about half a point over SAM on CIFAR-100, one seed")
def friendly_sam(
    base: Optimizer, rho: Rho = 0.05, *, sigma: float = 1.0, decay: float = 0.9, **options: Unpack[Options]
) -> SAM:
    """e = rho a / ||a||, a = g - sigma m, m the running mean of g (Li et al., CVPR 2024, arXiv:2403.12350).

    Args:
        base: the optimizer instance that steps.
        rho: the radius, or a schedule.
        sigma: how much of the mean is left out; 0 is SAM.
        decay: of the mean, lambda in the paper, in [0, 1).
        options: the other keywords of `SAM`, such as `model=`.

    >>> friendly_sam(torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)).ascent
    Residual(sigma=1.0, decay=0.9)
    """
    return SAM(base, rho, ascent=Residual(sigma, decay), **options)
