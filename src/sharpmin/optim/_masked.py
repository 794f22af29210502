"""Geometries that perturb only some of the weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sharpmin.core.rho import Scalar

from ._geometry import L2
from ._numeric.loops import times
from ._protocols import Context, Geometry, Metric, Part

Mask = Tensor | bool
"""The mask of one parameter: True for all entries, False for none, or a tensor of 0 and 1 of its shape."""


@dataclass(frozen=True)
class Masked(Geometry):
    """Perturb only the weights that the mask selects, in the geometry `inner`.

    To leave whole parameters out, a group with rho = 0 does the same and costs less.

    Args:
        mask: called with each tensor of weights, once a step; a bool, or a tensor of 0 and 1 of its shape.
        inner: the geometry of the rest.

    >>> import torch
    >>> geometry = Masked(lambda w: w.abs() > 1, L2())
    >>> w, g = [torch.tensor([3.0, 1.0, 2.0])], [torch.tensor([3.0, 9.0, 4.0])]
    >>> metric = geometry.at(w, g, Context())
    >>> geometry.dual_norm(metric.measure()), next(metric.steepest(metric.measure()))
    (5.0, tensor([0.6000, 0.0000, 0.8000]))
    """

    shards: ClassVar[bool] = False  # masks need whole tensors
    mask: Callable[[Tensor], Mask]
    inner: Geometry = L2()  # noqa: RUF009  # frozen

    def at(self, weights: Sequence[Tensor], vectors: Sequence[Tensor], context: Context) -> Metric:
        """The inner metric of the masked vectors."""
        return through(self.inner, [self.mask(w.detach()) for w in weights], weights, vectors, context)

    def dual_norm(self, total: Scalar) -> Scalar:
        """The inner dual norm."""
        return self.inner.dual_norm(total)

    def joint(self, norms: Sequence[Scalar]) -> Scalar:
        """The joint norm of `inner`."""
        return self.inner.joint(norms)

    def share(self, measure: Scalar, total: Scalar) -> Scalar:
        """The share of `inner`."""
        return self.inner.share(measure, total)


def through(
    inner: Geometry, masks: Sequence[Mask], weights: Sequence[Tensor], vectors: Sequence[Tensor], context: Context
) -> Metric:
    """The metric of `inner` for vectors with the masked entries set to 0.

    >>> import torch
    >>> w, g = [torch.ones(2)], [torch.tensor([3.0, 4.0])]
    >>> through(L2(), [torch.tensor([0.0, 1.0])], w, g, Context()).measure()
    16.0
    """
    return _Through(weights, vectors, inner.at(weights, masked(vectors, masks), context), masks)


def masked(vectors: Sequence[Tensor], masks: Sequence[Mask]) -> list[Tensor]:
    """Each vector, with 0 where its mask is 0."""
    pairs = zip(vectors, masks, strict=True)
    return [times(a, m.to(a.real.dtype) if isinstance(m, Tensor) else float(m)) for a, m in pairs]


@dataclass
class _Through(Metric):
    inner: Metric
    masks: Sequence[Mask]

    def measure(self) -> Scalar:
        """The inner measure of the masked vectors."""
        return self.inner.measure()

    def steepest(self, total: Scalar) -> Iterator[Tensor]:
        """The inner steepest ascent for the masked vectors."""
        return self.inner.steepest(total)

    def norm(self, weights: Sequence[Tensor], moves: Sequence[Tensor]) -> Scalar:
        """The inner norm of the masked moves."""
        return self.inner.norm(weights, masked(moves, self.masks))

    def parts(self, total: Scalar) -> Iterator[Part]:
        """The parts of the inner metric."""
        return self.inner.parts(total)
