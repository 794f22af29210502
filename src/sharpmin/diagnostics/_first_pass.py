"""The first gradients of a loop that is not ours, kept over its second pass, whatever the loop does to them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sharpmin.optim._numeric.tensors import dense


class FirstPass:
    """Gradients, each with its parameter, by reference or as copies.

    Args:
        grads: parameters that have one, with it.
        at_w: what was found of the weights.
        copies: whether to copy; references say only by torch's version counter that they were overwritten.
    """

    def __init__(self, grads: Sequence[tuple[Tensor, Tensor]], at_w: dict[str, Tensor], *, copies: bool):
        self.at_w = at_w
        self._grads = [(p, g, g._version) for p, g in grads]
        self._copies = {id(p): g.clone() for p, g in grads} if copies else None

    def overwritten(self) -> bool:
        """Whether a gradient has been written to since, or is still in its place."""
        if any(g._version != version or p.grad is g for p, g, version in self._grads):
            return True
        own = self._copies
        return own is not None and not all(torch.equal(dense(g), dense(own[id(p)])) for p, g, _ in self._grads)

    def of(self, parameters: Sequence[Tensor], second: Sequence[Tensor]) -> list[Tensor]:
        """The first gradients of these parameters; zero for one that had none."""
        first = {id(p): g for p, g, _ in self._grads} if self._copies is None else self._copies
        return [first[id(p)] if id(p) in first else torch.zeros_like(g) for p, g in zip(parameters, second, strict=True)]
