"""The two gradients of a step against each other: what SAM's second pass tells for free.

Sums run in the precision of the gradients over short pieces and in float64 across them. The difference is formed before it
is measured: `||G||^2 - 2 <G, g> + ||g||^2` would lose it to rounding where rho is small.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sharpmin.core.rho import Scalar

from . import _foreach
from .shards import locals_of
from .tensors import dense, inner, sum_of_squares


@dataclass(frozen=True)
class Pair:
    """The gradients of one step, of the parameters that have a second one.

    Attributes:
        parameters: the parameters.
        perturbed: G, the gradients at w + e.
        opposite: g - G = -D, which is made in place of g with the fewest reads and writes.
        scale: both are this many times the gradients of the loss (under a `GradScaler`), else 1.
    """

    parameters: Sequence[Tensor]
    perturbed: Sequence[Tensor]
    opposite: Sequence[Tensor]
    scale: Scalar = 1.0

    def clean(self) -> list[Tensor]:
        """g, made anew."""
        return [big + minus for big, minus in zip(self.perturbed, self.opposite, strict=True)]

    def products(self) -> dict[str, Scalar]:
        """`gg` = ||g||^2, `dg` = <D, g>, `dd` = ||D||^2, each a number of shape (), free of the scale."""
        square = self.scale * self.scale
        dd = sum_of_squares(self.opposite) / square
        to_g = -inner(self.opposite, self.perturbed) / square - dd  # <D, g> = <D, G> - ||D||^2
        return {"gg": sum_of_squares(self.perturbed) / square - 2 * to_g - dd, "dg": to_g, "dd": dd}


def pair(parameters: Sequence[Tensor], clean: Sequence[Tensor], perturbed: Sequence[Tensor], scale: Scalar = 1.0) -> Pair:
    """The pair of a step; `clean` is overwritten where that saves memory."""
    own, others = locals_of(clean), locals_of(perturbed)
    if own and _foreach.serves(own) and _foreach.serves(others):
        torch._foreach_sub_(own, others)
        return Pair(parameters, perturbed, clean, scale)
    filled = list(map(dense, perturbed))
    return Pair(parameters, filled, [dense(g) - big for g, big in zip(clean, filled, strict=True)], scale)


def ratios(products: dict[str, Scalar], inner_e: Scalar, squared_e: Scalar) -> dict[str, Scalar]:
    """The ratios of `opt.last`: cosine, amplification, curvature, smoothness; `inner_e` = <D, e>, `squared_e` = ||e||^2."""
    gg, dg, dd = products["gg"], products["dg"], products["dd"]
    big = gg + 2 * dg + dd
    return {
        "cosine": _over(gg + dg, (gg * big) ** 0.5),
        "amplification": _over(dg, gg),
        "curvature": _over(inner_e, squared_e),
        "smoothness": _over(dd**0.5, squared_e**0.5),
    }


def _over(part: Scalar, whole: Scalar) -> Scalar | None:
    if isinstance(whole, Tensor):
        return part / whole  # nan where there is nothing to compare, which a report shows as None
    return part / whole if whole > 0 else None
