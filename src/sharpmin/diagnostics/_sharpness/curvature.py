"""The Hessian of the mean loss as a linear map: one pass over the data with two derivatives, or two passes with one.

Second derivatives are those of autograd. Attention runs in the kernel that has them. If the model holds something without
(a kernel that it chose itself, `torch.compile`, an autograd function marked as differentiable once), central differences of
the gradient stand in, and the result says so. An autograd function whose backward pass hides its arguments from autograd
without saying so cannot be told from a linear one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from sharpmin.optim._numeric.kinds import any_low_precision, dense
from sharpmin.optim._numeric.sums import all_finite, inner, sum_of_squares

from .batches import Batch
from .graph import nodes
from .objective import Objective

AUTOGRAD = "autograd"
DIFFERENCES = "finite differences"

_MISSING = "torch::autograd::Error"  # graph node of a missing derivative
_LACKING = re.compile(r"double backward|differentiate twice|derivative for .* not implemented", re.IGNORECASE)


class Hessian:
    """H v for H the Hessian of L(w) = sum_b n_b loss_b(w) / sum_b n_b, summed in float64.

    Attributes:
        method: "autograd", or "finite differences" after the first product that autograd could not compute.
        products: the number of products so far.
    """

    def __init__(self, objective: Objective, batches: Iterable[Batch]):
        self._objective, self._batches = objective, batches
        self.method = AUTOGRAD
        self.products = 0

    def __call__(self, v: Sequence[Tensor]) -> list[Tensor]:
        """H v in float64, for a float64 tensor v_i of each weight's shape, on its device.

        Raises:
            ValueError: if the product is not finite, or differences are needed of half-precision weights.
        """
        self.products += 1
        product = self._twice(v) if self.method == AUTOGRAD else None
        if product is None:
            self.method = DIFFERENCES
            product = self._differences(v)
        if not all_finite(product):
            raise ValueError(
                f"{self._objective.owner}: a Hessian-vector product is not finite; is the loss finite at the weights?"
            )
        return product

    def _twice(self, v: Sequence[Tensor]) -> list[Tensor] | None:
        """H v by autograd; None if a second derivative is missing."""
        weights = self._objective.held.weights
        sums = [torch.zeros_like(p, dtype=torch.float64) for p in weights]
        cast = [u.to(p.dtype) for u, p in zip(v, weights, strict=True)]
        samples = 0
        with sdpa_kernel(SDPBackend.MATH):
            for batch, loss in self._objective.each(self._batches):
                products = self._product(self._objective.checked(loss), cast)
                if products is None:
                    return None
                for s, h in zip(sums, products, strict=True):
                    if h is not None:
                        s.add_(dense(h), alpha=batch.size)
                samples += batch.size
        return [s.div_(samples) for s in sums]

    def _product(self, loss: Tensor, v: Sequence[Tensor]) -> Sequence[Tensor | None] | None:
        weights = self._objective.held.weights
        # a seed that requires a gradient makes once-differentiable functions visible in the graph
        seed = torch.ones_like(loss, requires_grad=True)
        try:
            slope = torch.autograd.grad(loss, weights, seed, create_graph=True, allow_unused=True)
            known = [(g, u) for g, u in zip(slope, v, strict=True) if g is not None and g.requires_grad]
            outputs, vectors = [g for g, _ in known], [u for _, u in known]
            if _MISSING in nodes(outputs):
                return None
            return torch.autograd.grad(outputs, weights, vectors, allow_unused=True) if known else [None] * len(weights)
        except RuntimeError as error:
            if _LACKING.search(str(error)):
                return None
            raise

    def _differences(self, v: Sequence[Tensor]) -> list[Tensor]:
        """(grad L(w + h v) - grad L(w - h v)) / 2h, with h |v| = (eps max(1, |w|))^(1/3).

        Rounding w + h v adds an error of about eps |w| / h, the third derivative one of h^2: their sum is least at that order.
        """
        held = self._objective.held
        if any_low_precision(held.weights):
            raise ValueError(
                f"{self._objective.owner}: the model has no second derivative, and half-precision weights leave no room for "
                "differences; probe a float32 copy: copy.deepcopy(model).float()"
            )
        size = float(sum_of_squares(v)) ** 0.5
        if not size:
            return [torch.zeros_like(u) for u in v]
        eps = max(torch.finfo(p.dtype).eps for p in held.weights)
        h = (eps * max(1.0, float(sum_of_squares(held.anchor)) ** 0.5)) ** (1 / 3) / size
        try:
            held.move(v, h)
            _, above = self._objective.gradient(self._batches)
            held.move(v, -h)
            _, below = self._objective.gradient(self._batches)
        finally:
            held.home()
        return [(a.double() - b.double()).div_(2 * h) for a, b in zip(above, below, strict=True)]


def quadratic_form(hessian: Hessian, v: Sequence[Tensor]) -> float:
    """<v, H v>, summed in float64."""
    return float(inner(list(v), hessian(v)))
