"""LookSAM: a SAM step every k steps; the steps between take one pass and reuse its component orthogonal to g."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Unpack

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from sharpmin.core.reference import LIU_2022
from sharpmin.core.rho import Every, Rho, Scalar, finite

from .._numeric.kinds import at_least_float32, dense
from .._numeric.sums import inner, sum_of_squares
from .._protocols import Context, Descent, ParameterState
from .._settings import Options
from ..sam import SAM
from ._registry import variant


@dataclass(frozen=True)
class ReuseOrthogonal(Descent):
    """d = G on a step of two passes, which keeps V = G - <G, g> / ||g||^2 g; d = g + alpha ||g|| / ||V|| V on one of one pass.

    V is one parameter-sized state, which travels in `state_dict`; in scope "microbatch" it is the last micro-batch's.

    >>> w, rule = torch.zeros(2), ReuseOrthogonal(0.5)
    >>> _, _, kept = rule.coefficients([w], [torch.tensor([2.0, 0.0])], [torch.tensor([3.0, 4.0])], {}, Context())
    >>> kept[w], rule.coefficients([w], [torch.tensor([0.0, 2.0])], None, kept, Context())[:2]
    (tensor([0., 4.]), (1.0, 0.25))
    """

    stateful: ClassVar[bool] = True
    alpha: float = 0.7

    def __post_init__(self) -> None:
        finite(self.alpha, "alpha", "ReuseOrthogonal", low=0)

    def coefficients(
        self,
        weights: Sequence[Tensor],
        clean: Sequence[Tensor],
        perturbed: Sequence[Tensor] | None,
        state: ParameterState,
        context: Context,
    ) -> tuple[Scalar, Scalar, ParameterState]:
        """(0, 1) with a new V, or (1, alpha ||g|| / ||V||), 1 and 0 if V = 0."""
        if perturbed is None:
            kept = [state[w] for w in weights if w in state]
            return 1.0, self.alpha * _over(sum_of_squares(clean), sum_of_squares(kept)) ** 0.5, state
        g, other = ([at_least_float32(dense(t)) for t in side] for side in (clean, perturbed))
        c = _over(inner(other, g), sum_of_squares(g))
        new = [y - x * (c.to(x.device, x.real.dtype) if isinstance(c, Tensor) else c) for x, y in zip(g, other, strict=True)]
        return 0.0, 1.0, dict(zip(weights, new, strict=True))


def _over(part: Scalar, whole: Scalar) -> Scalar:
    return torch.where(whole > 0, part / whole, 0.0) if isinstance(whole, Tensor) else part / whole if whole > 0 else 0.0


@variant(LIU_2022, when="two passes cost too much: 1 + 1/k a step instead; the evidence is its authors' alone")
def looksam(base: Optimizer, rho: Rho = 0.05, *, k: int = 10, alpha: float = 0.7, **options: Unpack[Options]) -> SAM:
    """SAM on every k-th step; g + alpha ||g|| V / ||V|| between (Liu et al., CVPR 2022, arXiv:2203.02714, algorithm 1).

    A closure runs once on the steps between; around a block, `if opt.needs_second_pass:` saves its pass.

    Args:
        base: the optimizer instance that steps.
        rho: the radius on every k-th step, or a schedule of it.
        k: how many steps share a second pass; 1 is SAM.
        alpha: the length of the part that is reused, in units of ||g||.
        options: the other keywords of `SAM`, such as `model=`.

    >>> looksam(torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)).param_groups[0]["rho"]
    Every(rho=0.05, k=10)
    """
    return SAM(base, Every(rho, k), descent=ReuseOrthogonal(alpha), **options)
