"""Comparison of the two gradients of a step: norms, inner products, and the ratios in `opt.last`.

Sums run in the precision of the gradients over short pieces and in float64 across them. G - g is formed before its
norm is taken: `||G||^2 - 2 <G, g> + ||g||^2` would lose it to rounding if rho is small. It is formed piece by piece, without
memory for the whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from sharpmin.core.rho import Scalar

from ._numeric.kinds import dense, on_host
from ._numeric.shards import aligned
from ._numeric.sums import products, squares_fit
from ._numeric.tensors import differences


@dataclass
class GradientPair:
    """The two gradients of one step, dense, for the parameters that have a second gradient.

    Attributes:
        parameters: the parameters.
        clean: g, the gradients at w.
        perturbed: G, those at w + e.
        scale: both are this many times the gradients of the loss (under a `GradScaler`), else 1.
    """

    parameters: Sequence[Tensor]
    clean: Sequence[Tensor]
    perturbed: Sequence[Tensor]
    scale: Scalar = 1.0
    _products: dict[str, Scalar] | None = None

    def differences(self) -> list[Tensor]:
        """New tensors D = G - g, in float32 at least."""
        return differences(self.perturbed, self.clean)

    @property
    def products(self) -> dict[str, Scalar]:
        """`gg` = ||g||^2, `dg` = <D, g>, `dd` = ||D||^2 of the unscaled gradients, each of shape ().

        Floats on a CPU, else 0-dim tensors; sharded gradients are added up over the ranks in one reduction.
        """
        if self._products is None:
            self._products = self._named(products(self.clean, self.perturbed))
        return self._products

    def take(self, found: Tensor) -> None:
        """Use these products, shape (3,), computed elsewhere; ignored if a square was 0 or inf."""
        if self._products is None and (not on_host([found]) or squares_fit(found)):
            self._products = self._named(found)

    def _named(self, found: Tensor) -> dict[str, Scalar]:
        found = found / self.scale**2
        values: Sequence[Scalar] = found.tolist() if on_host([found]) else found.unbind()
        return dict(zip(("gg", "dg", "dd"), values, strict=True))

    @property
    def finite(self) -> bool:
        """True if the products are on the host and show that no entry is inf or nan; False means unknown."""
        return all(not isinstance(self.products[key], Tensor) and math.isfinite(self.products[key]) for key in ("gg", "dd"))


def pair(
    parameters: Sequence[Tensor], clean: Sequence[Tensor], perturbed: Sequence[Tensor], scale: Scalar = 1.0
) -> GradientPair:
    """The pair for these parameters; `scale` as in `GradientPair`."""
    before, now = ([dense(g) for g in aligned(grads, parameters)] for grads in (clean, perturbed))
    return GradientPair(parameters, before, now, scale)


def ratios(products: dict[str, Scalar], inner_e: Scalar, squared_e: Scalar) -> dict[str, Scalar]:
    """The ratios of `opt.last`: cosine, amplification, curvature, smoothness; `inner_e` = <D, e>, `squared_e` = ||e||^2."""
    gg, dg, dd = products["gg"], products["dg"], products["dd"]
    squared = gg + 2 * dg + dd
    return {
        "cosine": _over(gg + dg, (gg * squared) ** 0.5),
        "amplification": _over(dg, gg),
        "curvature": _over(inner_e, squared_e),
        "smoothness": _over(dd**0.5, squared_e**0.5),
    }


def _over(part: Scalar, whole: Scalar) -> Scalar | None:
    if isinstance(whole, Tensor):
        return part / whole  # nan for 0 / 0, which a report shows as None
    return part / whole if whole > 0 else None
