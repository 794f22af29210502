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

from ._numeric.kinds import dense, on_host
from ._numeric.sums import products
from ._protocols import Context, Descent, ParameterState


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
        """Return (0, 1)."""
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
        """Return (1 - weight, weight)."""
        return 1.0 - self.weight, float(self.weight), state


@dataclass(frozen=True)
class ClippedDifference(Descent):
    """d = g + min(1, theta ||g|| / ||G - g||) (G - g): what SAM adds never outweighs the gradient itself.

    So <d, g> >= (1 - theta) ||g||^2, whatever rho: deterministic SAM converges all the way with it (statement r2), and no
    smoothness has to be known. Norms are Euclidean, over all parameters with a second gradient.

    Args:
        theta: in (0, 1).

    Raises:
        ValueError: if theta is not in (0, 1).

    >>> g, perturbed = [torch.tensor([4.0])], [torch.tensor([8.0])]
    >>> ClippedDifference(0.5).coefficients([], g, perturbed, {}, Context())
    (0.5, 0.5, {})
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
        """Return (1 - s, s) with s = min(1, theta ||g|| / ||G - g||), 1 if G = g."""
        if perturbed is None:
            return 1.0, 0.0, state
        found = products(list(map(dense, clean)), list(map(dense, perturbed))).sqrt()
        size, change = found[0], found[2]
        s: Scalar
        if on_host([found]):
            s = min(1.0, self.theta * float(size / change)) if change > 0 else 1.0
        else:
            s = torch.where(change > 0, (self.theta * size / change).clamp(max=1.0), 1.0)
        return 1.0 - s, s, state
