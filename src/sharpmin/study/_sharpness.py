"""The largest Hessian eigenvalue, by power iteration on Hessian-vector products."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

TOLERANCE, MOST = 1e-3, 100


def eigenvalue(model: nn.Module, loss: Callable[[], Tensor], seed: int = 0) -> float:
    """The largest one, not the largest in size, once Rayleigh's quotient moves by less than a thousandth of itself."""
    weights = [p for p in model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(loss(), weights, create_graph=True)
    flat = torch.cat([g.reshape(-1) for g in gradients])

    def product(v: Tensor) -> Tensor:
        return torch.cat([h.reshape(-1) for h in torch.autograd.grad(flat @ v, weights, retain_graph=True)])

    start = torch.randn(flat.shape, generator=torch.Generator().manual_seed(seed), dtype=flat.dtype)
    found = _largest_in_size(product, start)
    return found if found >= 0 else found + _largest_in_size(lambda v: product(v) - found * v, start)


def _largest_in_size(product: Callable[[Tensor], Tensor], v: Tensor) -> float:
    found = 0.0
    for _ in range(MOST):
        v = v / v.norm()
        image = product(v)
        before, found = found, float(v @ image)
        if not abs(found - before) > TOLERANCE * abs(found):
            break
        v = image
    return found
