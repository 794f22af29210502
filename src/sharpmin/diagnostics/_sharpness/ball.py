"""The ball {e : ||e|| <= rho} of a geometry around fixed weights: projection, and random points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sharpmin.optim import Context, Geometry, LInf, Masked
from sharpmin.optim._numeric.kinds import at_least_float32
from sharpmin.optim._numeric.loops import times


@dataclass(frozen=True)
class Ball:
    """The ball of radius `rho` around `anchor`; scales and masks are those at the anchor.

    >>> ball = Ball(LInf(), [torch.zeros(2)], 1.0)
    >>> ball.project([torch.tensor([3.0, -0.5])])
    [tensor([ 1.0000, -0.5000])]
    """

    geometry: Geometry
    anchor: list[Tensor]
    rho: float

    def norm(self, vectors: Sequence[Tensor]) -> float:
        """||v||."""
        return float(self.geometry.at(self.anchor, vectors, Context()).norm(self.anchor, vectors))

    def steepest(self, gradient: Sequence[Tensor]) -> list[Tensor] | None:
        """The unit vector of steepest ascent; None if the gradient is zero or not finite."""
        metric = self.geometry.at(self.anchor, gradient, Context())
        total = metric.measure()
        if not 0 < float(total) < float("inf"):
            return None
        return list(metric.steepest(total))

    def project(self, vectors: Sequence[Tensor]) -> list[Tensor]:
        """The nearest point of the ball: clipped for `LInf`, scaled down for every other norm."""
        inner = self.geometry
        while isinstance(inner, Masked):
            inner = inner.inner
        if isinstance(inner, LInf):
            return [v.clamp(-self.rho, self.rho) for v in vectors]
        size = self.norm(vectors)
        return list(vectors) if size <= self.rho else [v * (self.rho / size) for v in vectors]

    def random(self, generator: torch.Generator) -> list[Tensor]:
        """A point in a random direction, its norm uniform in (0, rho); from a generator of the CPU on any device."""
        options: Any = {"generator": generator, "dtype": torch.float64, "device": "cpu"}
        noise = [torch.randn(w.shape, **options).to(at_least_float32(w)) for w in self.anchor]
        vectors = _spread(self.geometry, self.anchor, noise)
        size, radius = self.norm(vectors), self.rho * float(torch.rand((), **options))
        return [v * (radius / size if size else 0.0) for v in vectors]


def _spread(geometry: Geometry, anchor: Sequence[Tensor], noise: list[Tensor]) -> list[Tensor]:
    """Noise that is isotropic in the coordinates of the geometry."""
    if isinstance(geometry, Masked):
        through = (geometry.mask(w) for w in anchor)
        spread = _spread(geometry.inner, anchor, noise)
        return [times(z, m.to(z.dtype) if isinstance(m, Tensor) else float(m)) for z, m in zip(spread, through, strict=True)]
    scale = getattr(geometry, "scale", None)
    return noise if scale is None else [times(z, scale(w)) for z, w in zip(noise, anchor, strict=True)]
