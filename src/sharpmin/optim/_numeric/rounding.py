"""Stochastic rounding: on average it keeps a perturbation smaller than half a unit of the weights' format.

Rounded to nearest, a bfloat16 weight of 1.0 does not move by less than 0.0039, so the perturbation is lost. Rounded up or down
at random, with the right probabilities, it moves by the right amount in the mean; the price is a longer e.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_HALF = (torch.bfloat16, torch.float16)


class StochasticRounding:
    """The random bits of one perturbation, from its own generators: the global random state is unchanged.

    The bits depend on the seed only, so that all ranks perturb the same weights equally.

    >>> w = torch.ones(100_000, dtype=torch.bfloat16)
    >>> StochasticRounding(seed=0).displace(w, torch.full((100_000,), 0.001))
    >>> round(w.double().mean().item() - 1, 4)
    0.001
    """

    def __init__(self, seed: int):
        self._seed = seed
        self._generators: dict[torch.device, torch.Generator] = {}

    def displace(self, weight: Tensor, move: Tensor) -> None:
        """weight += move, in place; float16 and bfloat16 weights are rounded at random."""
        if weight.dtype not in _HALF:
            weight.add_(move.to(weight.dtype) if move.is_sparse else move)
        elif move.is_sparse:
            move = move.coalesce()
            rows = weight[tuple(move.indices())]
            weight[tuple(move.indices())] = self.rounded(rows.float() + move.values(), weight.dtype).to(weight.dtype)
        else:
            weight.copy_(self.rounded(weight.float() + move, weight.dtype))

    def rounded(self, target: Tensor, dtype: torch.dtype) -> Tensor:
        """`target`, in float32, as one of its two neighbors in the half-precision format `dtype`; still in float32."""
        most = torch.finfo(dtype).max
        down = _bfloat16(target, self._draw) if dtype is torch.bfloat16 else _float16(target, self._draw)
        inside = target.abs() <= most  # also false for nan: non-finite values stay
        return torch.where(inside, down.clamp(-most, most), target)

    def _draw(self, like: Tensor) -> Tensor:
        """Whole numbers in [0, 2^16), one an entry."""
        on = like.device
        return torch.randint(1 << 16, like.shape, generator=self._on(on), device=on, dtype=torch.int32)

    def _on(self, device: torch.device) -> torch.Generator:
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(self._seed)
        return self._generators[device]


def _bfloat16(t: Tensor, draw: Callable[[Tensor], Tensor]) -> Tensor:
    """bfloat16 is the upper half of float32: add 16 random bits, and drop the lower half."""
    return (t.view(torch.int32) + draw(t)).bitwise_and_(-(1 << 16)).view(torch.float32)


def _float16(t: Tensor, draw: Callable[[Tensor], Tensor]) -> Tensor:
    """float16 numbers are 2^-places apart, evenly below 2^-14: round up with probability the remainder, else down."""
    places = 11 - torch.frexp(t).exponent.clamp(min=-13)
    units = torch.ldexp(t, places)
    low = units.floor()
    up = draw(t) < (units - low) * (1 << 16)
    return torch.ldexp(low + up, -places)
