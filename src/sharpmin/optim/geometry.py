"""The norm in which the ball of radius rho is round.

A geometry answers `argmax {<g, v> : ||v|| <= 1}` in three pure functions on lists of tensors. `measure` returns a sum
that is additive over any split of the lists, so groups, devices and shards reduce it once; `dual_norm` turns the total
into `||g||_*`; `steepest` gives the `v` with `||v|| = 1` and `<g, v> = ||g||_*`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sharpmin.core.rho import Scalar

from .tensors import sum_of_squares, wide


class Geometry(Protocol):
    """What `SAM` asks of a norm; weights and gradients come in the same order."""

    def measure(self, weights: Sequence[Tensor], grads: Sequence[Tensor]) -> Scalar:
        """The additive part of the dual norm."""

    def dual_norm(self, total: Scalar) -> Scalar:
        """The dual norm from the sum of all `measure`s."""

    def steepest(self, weights: Sequence[Tensor], grads: Sequence[Tensor], total: Scalar) -> Iterator[Tensor]:
        """The unit vector of steepest ascent, one fresh tensor per gradient; needs a finite, positive `total` on a CPU."""


@dataclass(frozen=True)
class L2:
    """The Euclidean ball: v = g / ||g||_2 (Foret, Kleiner, Mobahi & Neyshabur, ICLR 2021, arXiv:2010.01412, eq. 2).

    Half-precision gradients give float32 directions. On an accelerator a zero or non-finite norm gives v = 0.

    >>> geometry, g = L2(), [torch.tensor([3.0]), torch.tensor([4.0])]
    >>> total = geometry.measure([], g)
    >>> geometry.dual_norm(total), torch.cat(list(geometry.steepest([], g, total)))
    (5.0, tensor([0.6000, 0.8000]))
    """

    def measure(self, weights: Sequence[Tensor], grads: Sequence[Tensor]) -> Scalar:
        """sum g_i^2."""
        return sum_of_squares(grads)

    def dual_norm(self, total: Scalar) -> Scalar:
        """sqrt(total)."""
        return total**0.5

    def steepest(self, weights: Sequence[Tensor], grads: Sequence[Tensor], total: Scalar) -> Iterator[Tensor]:
        """The gradients over sqrt(total)."""
        norm = self.dual_norm(total)
        for grad in grads:
            if grad.is_sparse:
                g = grad.coalesce()
                values = _divide(wide(g.values()), norm)
                yield torch.sparse_coo_tensor(g.indices(), values, g.shape, is_coalesced=True, check_invariants=False)
            else:
                yield _divide(wide(grad), norm)


def _divide(g: Tensor, norm: Scalar) -> Tensor:
    """The quotient; 0 where a norm that only the device knows is zero or not finite (0 * inf would be nan)."""
    if not isinstance(norm, Tensor):
        return g / float(norm)
    n = norm.to(g.device)
    return torch.where(torch.isfinite(n) & (n > 0), g / n, torch.zeros((), dtype=g.dtype, device=g.device))
