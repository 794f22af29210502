"""The gradient handed to the base optimizer, from the one at w and the one at w + e.

| descent | d | needs g |
|---|---|---|
| `Perturbed()` | G | no |
| `Mix(weight)` | (1 - weight) g + weight G | yes |
| `ClippedDifference(theta)` | g + min(1, theta norm(g) / norm(G - g)) (G - g) | yes |

A rule that needs g keeps it through the second pass: one more parameter-sized tensor between the passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sharpmin.core.rho import Scalar, finite

from ._numeric.tensors import at_least_float32, dense, sum_of_squares
from ._protocols import Context, Descent, ParameterState


def combine(clean: Sequence[Tensor], perturbed: Sequence[Tensor], a: Scalar, b: Scalar) -> list[Tensor]:
    """d = a g + b G, a tensor for each pair; G itself where a is 0 and b is 1.

    Where b is 0 the sum is still formed: exactly g, unless G holds an inf or a nan, which must not be lost.

    >>> combine([torch.tensor([4.0])], [torch.tensor([8.0])], 0.75, 0.25)
    [tensor([5.])]
    """
    if not (isinstance(a, Tensor) or isinstance(b, Tensor)) and (a, b) == (0.0, 1.0):
        return list(perturbed)
    return [_weighted(g, other, a, b) for g, other in zip(clean, perturbed, strict=True)]


def _weighted(g: Tensor, perturbed: Tensor, a: Scalar, b: Scalar) -> Tensor:
    if g.is_sparse and perturbed.is_sparse:
        mixed: Tensor = g * a + perturbed * b
        return mixed.coalesce()
    one, other = at_least_float32(dense(g)), at_least_float32(dense(perturbed))
    a, b = (s.to(one.device, one.real.dtype) if isinstance(s, Tensor) else s for s in (a, b))
    total: Tensor = (one * a).add_(other * b) if isinstance(b, Tensor) else (one * a).add_(other, alpha=b)
    return total.to(g.dtype)


@dataclass(frozen=True)
class Perturbed(Descent):
    """d = G: SAM (Foret et al., ICLR 2021, arXiv:2010.01412).

    >>> Perturbed().coefficients([], [torch.zeros(1)], [torch.ones(1)], {}, Context())
    (0.0, 1.0, {})
    """

    needs_clean: ClassVar[bool] = False

    def coefficients(
        self,
        weights: Sequence[Tensor],
        clean: Sequence[Tensor],
        perturbed: Sequence[Tensor] | None,
        state: ParameterState,
        context: Context,
    ) -> tuple[Scalar, Scalar, ParameterState]:
        """(0, 1)."""
        return 0.0, 1.0, state


@dataclass(frozen=True)
class Mix(Descent):
    """d = (1 - weight) g + weight G: WSAM, where weight = gamma / (1 - gamma); 0 is the base, 1 is SAM, more overshoots.

    Yue, Jiang, Ye, Gao, Liu & Zhang, Sharpness-Aware Minimization Revisited: Weighted Sharpness as a Regularization Term,
    KDD 2023, arXiv:2305.15817.

    Args:
        weight: >= 0.

    >>> Mix(0.25).coefficients([], [torch.zeros(1)], [torch.ones(1)], {}, Context())
    (0.75, 0.25, {})
    """

    weight: float = 0.5

    def __post_init__(self) -> None:
        finite(self.weight, "weight", "Mix", low=0)

    def coefficients(
        self,
        weights: Sequence[Tensor],
        clean: Sequence[Tensor],
        perturbed: Sequence[Tensor] | None,
        state: ParameterState,
        context: Context,
    ) -> tuple[Scalar, Scalar, ParameterState]:
        """(1 - weight, weight)."""
        return 1.0 - self.weight, float(self.weight), state


@dataclass(frozen=True)
class ClippedDifference(Descent):
    """d = g + min(1, theta ||g|| / ||G - g||) (G - g): what SAM adds never outweighs the gradient itself.

    So <d, g> >= (1 - theta) ||g||^2, whatever rho: deterministic SAM converges all the way with it (statement r2), and no
    smoothness has to be known. Norms are Euclidean, over all parameters with a second gradient.

    Args:
        theta: in (0, 1).

    >>> g, perturbed = [torch.tensor([4.0])], [torch.tensor([8.0])]
    >>> a, b, _ = ClippedDifference(0.5).coefficients([], g, perturbed, {}, Context())
    >>> combine(g, perturbed, a, b)
    [tensor([6.])]
    """

    theta: float = 0.5

    def __post_init__(self) -> None:
        if finite(self.theta, "theta", "ClippedDifference", low=0, strict=True) >= 1:
            raise ValueError(f"ClippedDifference: theta={self.theta!r}; theta must be in (0, 1)")

    def coefficients(
        self,
        weights: Sequence[Tensor],
        clean: Sequence[Tensor],
        perturbed: Sequence[Tensor] | None,
        state: ParameterState,
        context: Context,
    ) -> tuple[Scalar, Scalar, ParameterState]:
        """(1 - s, s) with s = min(1, theta ||g|| / ||G - g||), 1 if G = g."""
        if perturbed is None:
            return 1.0, 0.0, state
        size = sum_of_squares(clean) ** 0.5
        pairs = zip(clean, perturbed, strict=True)
        change = sum_of_squares([at_least_float32(dense(p)) - at_least_float32(dense(g)) for g, p in pairs]) ** 0.5
        s: Scalar
        if isinstance(change, Tensor):
            s = torch.where(change > 0, (self.theta * size / change).clamp(max=1.0), 1.0)
        else:
            s = min(1.0, self.theta * size / change) if change > 0 else 1.0
        return 1.0 - s, s, state
