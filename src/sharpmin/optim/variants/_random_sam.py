"""Random SAM: the gradient at a random point near w, in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Unpack

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from sharpmin.core.reference import BISLA_2022
from sharpmin.core.rho import Rho

from .._numeric.kinds import is_low_precision
from .._numeric.shards import any_sharded
from .._protocols import Ascent, Context, ParameterState
from .._settings import Options
from ..sam import SAM
from ._registry import variant


@dataclass(frozen=True)
class RandomDirection(Ascent):
    """a = z with z ~ N(0, I): no gradient at w is needed, so a step has one pass; write the block alone, or use a closure.

    z follows from the number of the step: every rank, every copy and every resumed run draws the same one, and the global
    random state is left alone.

    >>> w = torch.zeros(1)
    >>> RandomDirection().update([w], [None], {}, Context(step=7))
    ([tensor([-1.2491])], {})
    """

    needs_clean: ClassVar[bool] = False

    def update(
        self, weights: Sequence[Tensor], grads: Sequence[Tensor | None], state: ParameterState, context: Context
    ) -> tuple[Sequence[Tensor | None], ParameterState]:
        """Numbers for each weight, in the order of the weights, float32 for half precision."""
        if any_sharded(weights):
            raise ValueError(
                "SAM: ascent=RandomDirection() needs whole tensors, and the parameters are sharded (DTensor); use Gradient()"
            )
        return [_normal(w, context.generator(w.device)) for w in weights], state


def _normal(w: Tensor, generator: torch.Generator) -> Tensor:
    dtype = torch.float32 if is_low_precision(w) else w.dtype
    return torch.randn(w.shape, generator=generator, dtype=dtype, device=w.device)


@variant(
    BISLA_2022, when="a baseline in one pass, to see whether it matters that SAM climbs; one paper for the smoothing itself"
)
def random_sam(base: Optimizer, rho: Rho = 0.05, **options: Unpack[Options]) -> SAM:
    """e = rho z / ||z||, z ~ N(0, I) (one draw a step of LPF-SGD, Bisla et al., AISTATS 2022, arXiv:2201.08025).

    The paper averages gradients over several draws of a length that follows the weights; here one, of the length rho.

    Args:
        base: the optimizer instance that steps, with momentum or without.
        rho: the radius, or a schedule; in many dimensions far larger ones than SAM's change the loss as much.
        options: the other keywords of `SAM`, such as `model=`; the only scope is "global".

    >>> random_sam(torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)).ascent
    RandomDirection()
    """
    return SAM(base, rho, ascent=RandomDirection(), **options)
