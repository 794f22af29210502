"""The gradient handed to the base optimizer, from the one at w and the one at w + e.

| descent | d | needs g |
|---|---|---|
| `Perturbed()` | G | no |
| `Mix(weight)` | (1 - weight) g + weight G | yes |
| `ClippedDifference(theta)` | g + min(1, theta norm(g) / norm(G - g)) (G - g) | yes |

A rule that needs g keeps it through the second pass: one more parameter-sized tensor between the passes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sharpmin.core.rho import Scalar, finite

from ._numeric.tensors import dense, sum_of_squares, wide


class Descent(ABC):
    """A rule for the descent gradient.

    Attributes:
        needs_clean: whether it needs the gradient at w.
    """

    needs_clean: ClassVar[bool] = True

    @abstractmethod
    def share(self, clean: Sequence[Tensor], perturbed: Sequence[Tensor]) -> Scalar:
        """The s in d = g + s (G - g)."""

    def combine(self, clean: Sequence[Tensor], perturbed: Sequence[Tensor]) -> list[Tensor]:
        """d, a tensor for each parameter that has a second gradient; exactly G where s is 1, exactly g where s is 0."""
        s = self.share(clean, perturbed)
        return [_between(g, big, s) for g, big in zip(clean, perturbed, strict=True)]


@dataclass(frozen=True)
class Perturbed(Descent):
    """d = G: SAM (Foret et al., ICLR 2021, arXiv:2010.01412).

    >>> import torch
    >>> Perturbed().combine([torch.zeros(1)], [torch.ones(1)])
    [tensor([1.])]
    """

    needs_clean: ClassVar[bool] = False

    def share(self, clean: Sequence[Tensor], perturbed: Sequence[Tensor]) -> Scalar:
        """1."""
        return 1.0

    def combine(self, clean: Sequence[Tensor], perturbed: Sequence[Tensor]) -> list[Tensor]:
        """G itself."""
        return list(perturbed)


@dataclass(frozen=True)
class Mix(Descent):
    """d = (1 - weight) g + weight G: WSAM, where weight = gamma / (1 - gamma); 0 is the base, 1 is SAM, more overshoots.

    Yue, Jiang, Ye, Gao, Liu & Zhang, Sharpness-Aware Minimization Revisited: Weighted Sharpness as a Regularization Term,
    KDD 2023, arXiv:2305.15817.

    Args:
        weight: >= 0.

    >>> import torch
    >>> Mix(0.25).combine([torch.zeros(1)], [torch.ones(1)])
    [tensor([0.2500])]
    """

    weight: float = 0.5

    def __post_init__(self) -> None:
        finite(self.weight, "weight", "Mix", low=0)

    def share(self, clean: Sequence[Tensor], perturbed: Sequence[Tensor]) -> Scalar:
        """`weight`."""
        return float(self.weight)


@dataclass(frozen=True)
class ClippedDifference(Descent):
    """d = g + min(1, theta ||g|| / ||G - g||) (G - g): what SAM adds never outweighs the gradient itself.

    So <d, g> >= (1 - theta) ||g||^2, whatever rho: deterministic SAM converges all the way with it (statement r2), and no
    smoothness has to be known. Norms are Euclidean, over all parameters with a second gradient.

    Args:
        theta: in (0, 1).

    >>> import torch
    >>> ClippedDifference(0.5).combine([torch.tensor([4.0])], [torch.tensor([10.0])])
    [tensor([6.])]
    """

    theta: float = 0.5

    def __post_init__(self) -> None:
        if finite(self.theta, "theta", "ClippedDifference", low=0, strict=True) >= 1:
            raise ValueError(f"ClippedDifference: theta={self.theta!r}; theta must be in (0, 1)")

    def share(self, clean: Sequence[Tensor], perturbed: Sequence[Tensor]) -> Scalar:
        """min(1, theta ||g|| / ||G - g||), 1 if G = g."""
        size = sum_of_squares(clean) ** 0.5
        pairs = zip(clean, perturbed, strict=True)
        change = sum_of_squares([wide(dense(big)) - wide(dense(g)) for g, big in pairs]) ** 0.5
        if isinstance(change, Tensor):
            return torch.where(change > 0, (self.theta * size / change).clamp(max=1.0), 1.0)
        return min(1.0, self.theta * size / change) if change > 0 else 1.0


def _between(g: Tensor, big: Tensor, s: Scalar) -> Tensor:
    if g.is_sparse and big.is_sparse:
        mixed: Tensor = g * (1 - s) + big * s
        return mixed.coalesce()
    g, big = dense(g), dense(big)
    weight = s.to(g.device, g.real.dtype) if isinstance(s, Tensor) else s
    return torch.lerp(g, big, weight)
