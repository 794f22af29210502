"""The Hessian of the mean loss as a linear map: one pass over the data with two derivatives, or two passes with one.

Second derivatives are those of autograd. Attention runs in the kernel that has them. Where the model holds something without
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

from sharpmin.optim.tensors import any_low_precision, inner, sum_of_squares

from ._batches import Batch
from ._objective import Objective

AUTOGRAD = "autograd"
DIFFERENCES = "finite differences"

_LACKING = re.compile(r"double backward|differentiate twice|derivative for .* not implemented", re.IGNORECASE)


class Hessian:
    """H v for H the Hessian of L(w) = sum_b n_b loss_b(w) / sum_b n_b, summed in float64.

    Attributes:
        method: "autograd", or "finite differences" from the first product on that autograd could not do.
        products: how many so far.
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
        if self.method == AUTOGRAD:
            found = self._twice(v)
            if found is None:
                self.method = DIFFERENCES
        product = found if self.method == AUTOGRAD else self._differences(v)
        if product is None or not all(bool(torch.isfinite(t).all()) for t in product):
            raise ValueError(
                f"{self._objective.owner}: a Hessian-vector product is not finite; is the loss finite at the weights?"
            )
        return product

    def _twice(self, v: Sequence[Tensor]) -> list[Tensor] | None:
        """By autograd; None if a second derivative is missing."""
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
                        s.add_(h.to_dense() if h.is_sparse else h, alpha=batch.size)
                samples += batch.size
        return [s.div_(samples) for s in sums]

    def _product(self, loss: Tensor, v: Sequence[Tensor]) -> Sequence[Tensor | None] | None:
        weights = self._objective.held.weights
        # with a seed that requires a gradient, functions that are differentiable once always leave their mark in the graph
        seed = torch.ones_like(loss, requires_grad=True)
        try:
            slope = torch.autograd.grad(loss, weights, seed, create_graph=True, allow_unused=True)
            known = [(g, u) for g, u in zip(slope, v, strict=True) if g is not None and g.requires_grad]
            if _once_only([g for g, _ in known]):
                return None
            outputs, vectors = [g for g, _ in known], [u for _, u in known]
            return torch.autograd.grad(outputs, weights, vectors, allow_unused=True) if known else [None] * len(weights)
        except RuntimeError as error:
            if _LACKING.search(str(error)):
                return None
            raise

    def _differences(self, v: Sequence[Tensor]) -> list[Tensor]:
        """(grad L(w + h v) - grad L(w - h v)) / 2h, with h |v| = eps^(1/3) max(1, |w|)."""
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
        h = eps ** (1 / 3) * max(1.0, float(sum_of_squares(held.anchor)) ** 0.5) / size
        try:
            held.move(v, h)
            _, above = self._objective.gradient(self._batches)
            held.move(v, -h)
            _, below = self._objective.gradient(self._batches)
        finally:
            held.home()
        return [(a.double() - b.double()).div_(2 * h) for a, b in zip(above, below, strict=True)]


def _once_only(slope: Sequence[Tensor]) -> bool:
    """Whether the graph of a gradient holds a node that stands for a derivative that does not exist."""
    seen, todo = set(), [g.grad_fn for g in slope if g.grad_fn is not None]
    while todo:
        node = todo.pop()
        if node in seen:
            continue
        seen.add(node)
        if node.name() == "torch::autograd::Error":
            return True
        todo += [following for following, _ in node.next_functions if following is not None]
    return False


def quadratic_form(hessian: Hessian, v: Sequence[Tensor]) -> float:
    """<v, H v>, summed in float64."""
    return float(inner(list(v), hessian(v)))
