"""Friendly SAM: climb along the gradient minus its running mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Unpack

from torch import Tensor
from torch.optim.optimizer import Optimizer

from sharpmin.core.reference import LI_2024
from sharpmin.core.rho import Rho, finite

from .._ascent import running_mean
from .._numeric.kinds import dense
from .._numeric.tensors import combine
from .._protocols import Ascent, Context, ParameterState
from .._settings import Options
from ..sam import SAM
from ._registry import variant


@dataclass(frozen=True)
class Residual(Ascent):
    """a_t = g_t - sigma m_t with m_t = decay m_{t-1} + (1 - decay) g_t and m_0 = 0: the gradient without its running mean.

    m is one parameter-sized state, which travels in `state_dict`. A gradient that never changes leaves rounding noise.

    Args:
        sigma: how much of the running mean is subtracted, at least 0.
        decay: of the running mean, in [0, 1).

    Raises:
        ValueError: if sigma is negative or not finite, or decay is not in [0, 1).

    >>> import torch
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
        """Return the residuals; a parameter without a gradient, or with a non-finite one, keeps its mean."""
        means, new = running_mean(weights, grads, state, 1 - self.decay)
        there = [m for m in means if m is not None]
        residuals = iter(combine(there, [dense(g) for g in grads if g is not None], -self.sigma, 1.0))
        return [None if m is None else next(residuals) for m in means], new


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

    >>> import torch
    >>> friendly_sam(torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)).ascent
    Residual(sigma=1.0, decay=0.9)
    """
    return SAM(base, rho, ascent=Residual(sigma, decay), **options)
