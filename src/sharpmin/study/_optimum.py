"""The least training loss: of a penalized softmax regression by LBFGS, of a net 0, which is what cross-entropy can reach."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from ._settings import setting


@lru_cache(maxsize=32)
def optimum(name: str, noise: float, seed: int) -> float:
    """f* of a setting with the labels of a seed; 0 where no penalty makes it known."""
    s = setting(name)
    if not s.l2:
        return 0.0
    samples = s.load().noisy(noise, seed)
    x, y = samples.x, samples.y
    model = s.model()
    best = torch.optim.LBFGS(
        model.parameters(), max_iter=2000, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        best.zero_grad()
        loss = s.loss(model, x, y)
        loss.backward()  # type: ignore[no-untyped-call]  # untyped in torch
        return loss

    best.step(closure)  # type: ignore[no-untyped-call]  # untyped in torch
    with torch.no_grad():
        return float(s.loss(model, x, y))
