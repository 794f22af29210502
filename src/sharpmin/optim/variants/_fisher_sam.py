"""Fisher SAM: only the weights with the largest Fisher information are perturbed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Unpack

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from sharpmin.core.reference import MI_2022
from sharpmin.core.rho import Rho, Scalar, finite

from .._geometry import L2
from .._masked import through
from .._numeric.kinds import at_least_float32, dense
from .._protocols import Context, Geometry, Metric
from .._settings import Options
from ..sam import SAM
from ._registry import variant


@dataclass(frozen=True)
class FisherMask(Geometry):
    """The Euclidean ball on the share `keep` of a group's weights with the largest diagonal Fisher information; 0 elsewhere.

    The estimate is the base's second moment (`exp_avg_sq` of Adam, `square_avg` of RMSprop), or without one the
    squared entries of the ascent's vector. Of equal entries the first are chosen; at least one is.

    Args:
        keep: the share of the weights that is perturbed, in (0, 1].

    Raises:
        ValueError: if keep is not in (0, 1].

    >>> g = [torch.tensor([3.0, -1.0]), torch.tensor([4.0, 2.0])]
    >>> FisherMask(keep=0.5).at(g, g, Context()).measure()
    25.0
    """

    shards: ClassVar[bool] = False  # ranking needs whole tensors
    keep: float = 0.5

    def __post_init__(self) -> None:
        if finite(self.keep, "keep", "FisherMask", low=0, strict=True) > 1:
            raise ValueError(f"FisherMask: keep={self.keep!r}; keep must be in (0, 1]")

    def at(self, weights: Sequence[Tensor], vectors: Sequence[Tensor], context: Context) -> Metric:
        """The masked metric; entries are ranked by the root of the information, since squares may underflow."""
        roots = [_root(a, context.base_state.get(w, {})).reshape(-1) for w, a in zip(weights, vectors, strict=True)]
        if not roots or self.keep == 1:
            return L2().at(weights, vectors, context)
        line = torch.cat([root.to(roots[0].device) for root in roots])
        mask = torch.zeros_like(line, dtype=torch.bool)
        mask[torch.sort(line, descending=True, stable=True).indices[: max(1, round(self.keep * line.numel()))]] = True
        parts = zip(torch.split_with_sizes(mask, [root.numel() for root in roots]), vectors, strict=True)
        return through(L2(), [part.view(a.shape).to(a.device) for part, a in parts], weights, vectors, context)

    def dual_norm(self, total: Scalar) -> Scalar:
        """sqrt(total)."""
        return total**0.5


def _root(vector: Tensor, state: dict[str, Tensor]) -> Tensor:
    second = state.get("exp_avg_sq", state.get("square_avg"))
    return at_least_float32(dense(vector)).abs() if second is None else at_least_float32(second).abs().sqrt()


@variant(MI_2022, when="to see which weights SAM needs: on par with SAM by its authors; the mask saves no pass and no time")
def fisher_sam(base: Optimizer, rho: Rho = 0.05, *, keep: float = 0.5, **options: Unpack[Options]) -> SAM:
    """e = rho m g / ||m g||, m the mask of the largest Fisher information (Mi et al., NeurIPS 2022, arXiv:2210.05177).

    SSAM-F with an estimate that is free in every step; the paper computes squared gradients of samples now and then.

    Args:
        base: the optimizer instance that steps, whose second moment is used if it keeps one.
        rho: the radius, or a schedule.
        keep: the share of each group's weights that is perturbed, in (0, 1]; 1 is SAM.
        options: the other keywords of `SAM`, such as `model=`.

    >>> fisher_sam(torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)).geometry
    FisherMask(keep=0.5)
    """
    return SAM(base, rho, geometry=FisherMask(keep), **options)
