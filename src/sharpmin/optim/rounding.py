"""Stochastic rounding: a perturbation smaller than half a unit of the weights' format survives on average.

To nearest, bfloat16 weights of 1.0 do not move by anything below 0.0039: the ascent is lost. Rounded up or down at random, in
proportion to what is left over, every weight moves by the right amount in the mean: unbiased, at the price of a longer e.
"""

from __future__ import annotations

import torch
from torch import Tensor

_BITS = {torch.bfloat16: 16, torch.float16: 13}  # of the float32 fraction that the format has no room for


class Dither:
    """The random bits of one ascent, from generators of its own: the global random state does not move.

    The bits depend on the seed alone, so that ranks which perturb the same weights perturb them equally.

    >>> w = torch.ones(100_000, dtype=torch.bfloat16)
    >>> Dither(seed=0).displace(w, torch.full((100_000,), 0.001))
    >>> round(w.double().mean().item() - 1, 4)
    0.001
    """

    def __init__(self, seed: int):
        self._seed = seed
        self._generators: dict[torch.device, torch.Generator] = {}

    def displace(self, weight: Tensor, move: Tensor) -> None:
        """weight += move, in place; float16 and bfloat16 weights are rounded at random."""
        bits = _BITS.get(weight.dtype)
        if bits is None or move.is_sparse:
            weight.add_(move.to(weight.dtype))
            return
        target = weight.float() + move
        noise = torch.randint(
            1 << bits, target.shape, generator=self._on(weight.device), device=weight.device, dtype=torch.int32
        )
        dithered = (target.view(torch.int32) + noise).bitwise_and_(-(1 << bits)).view(torch.float32)
        weight.copy_(torch.where(torch.isfinite(target), dithered, target))

    def _on(self, device: torch.device) -> torch.Generator:
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(self._seed)
        return self._generators[device]
