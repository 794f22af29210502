"""Spectral SAM: a ball in the spectral norm of each matrix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Unpack, get_args

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from sharpmin.core.reference import BERNSTEIN_2024, PETHICK_2025
from sharpmin.core.rho import Rho, Scalar

from .._numeric.polar import matrix, operator_norm, polar
from .._numeric.sums import inner, largest, present
from .._protocols import Context, Geometry, Metric
from .._settings import Options
from ..sam import SAM
from ._registry import variant

Method = Literal["svd", "newton-schulz"]


@dataclass(frozen=True)
class Spectral(Geometry):
    """||v|| = the largest singular value of any tensor, as a matrix (first dimension x rest; a vector by its L2 norm).

    The dual norm is the sum of all singular values, and v = U V^T of each tensor: every matrix moves by rho in every direction
    of its gradient. `method` "svd" is exact, and on an accelerator waits for it; "newton-schulz" only multiplies matrices, and
    counts directions below 1e-3 (float64: 1e-7) of a tensor's L2 norm in part. Any other is a ValueError.

    >>> g = [torch.tensor([[3.0, 0.0], [0.0, -4.0]])]
    >>> metric = Spectral().at(g, g, Context())
    >>> metric.measure(), next(metric.steepest(7.0)).diagonal()
    (7.0, tensor([ 1., -1.]))
    """

    shards: ClassVar[bool] = False  # singular values need whole tensors
    method: Method = "svd"

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise ValueError(
                f"Spectral: method={self.method!r}; method must be one of {', '.join(map(repr, get_args(Method)))}"
            )

    def at(self, weights: Sequence[Tensor], vectors: Sequence[Tensor], context: Context) -> Metric:
        """The metric with the polar factor of every vector."""
        return _Polar(weights, vectors, [polar(a, iterate=self.method == "newton-schulz") for a in vectors])

    def dual_norm(self, total: Scalar) -> Scalar:
        """total."""
        return total

    def joint(self, norms: Sequence[Scalar]) -> Scalar:
        """The largest."""
        return largest(norms)

    def share(self, measure: Scalar, total: Scalar) -> Scalar:
        """1, or 0 for a group whose gradients are zero."""
        return present(measure)


@dataclass
class _Polar(Metric):
    factors: Sequence[Tensor]

    def measure(self) -> Scalar:
        """The sum of <a, U V^T>, which is that of the singular values; nan where an entry is not finite."""
        return inner([matrix(a) for a in self.vectors], [matrix(v) for v in self.factors])

    def steepest(self, total: Scalar) -> Iterator[Tensor]:
        """U V^T."""
        for v in self.factors:
            yield torch.where(torch.isfinite(total).to(v.device), v, 0.0) if isinstance(total, Tensor) else v

    def norm(self, weights: Sequence[Tensor], moves: Sequence[Tensor]) -> Scalar:
        """The largest singular value."""
        return operator_norm(list(moves))


@variant(BERNSTEIN_2024, PETHICK_2025, when="an experiment, say with Muon as the base, whose ball it is; no evidence published")
def spectral_sam(base: Optimizer, rho: Rho = 0.05, *, method: Method = "svd", **options: Unpack[Options]) -> SAM:
    """e = rho U V^T for g = U S V^T, per matrix (the ball of Bernstein & Newhouse, 2024, arXiv:2409.20325).

    Steepest ascent in the norm in which Muon descends; Pethick et al., ICML 2025, arXiv:2502.07529, have it for any such ball.

    Args:
        base: the optimizer instance that steps.
        rho: how far every matrix moves in its spectral norm, or a schedule: sqrt(rank) times longer than in L2.
        method: of the polar factor: "svd", exact, or "newton-schulz".
        options: the other keywords of `SAM`, such as `model=`.

    >>> spectral_sam(torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)).geometry
    Spectral(method='svd')
    """
    return SAM(base, rho, geometry=Spectral(method), **options)
