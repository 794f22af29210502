"""The first gradients of a training loop with another SAM, kept through its second pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sharpmin.optim._gradients import kept
from sharpmin.optim._numeric.kinds import dense


class FirstGradients:
    """First gradients with their parameters, as references or copies.

    Args:
        grads: (parameter, gradient) for each parameter with a gradient.
        at_w: sketches that depend on the weights at w.
        copies: whether to copy all; else only gradients in shared memory are copied, and torch's version counter shows
            whether a reference was overwritten.
    """

    def __init__(self, grads: Sequence[tuple[Tensor, Tensor]], at_w: dict[str, Tensor], *, copies: bool):
        self.at_w = at_w
        held = kept(list(grads))
        self._references = [(p, g, g._version) for (p, g), (_, own) in zip(grads, held, strict=True) if own is g]
        self._held = {id(p): own for p, own in held}
        self._copied = copies
        if copies:
            self._held |= {id(p): g.clone() for p, g, _ in self._references}

    def overwritten(self) -> bool:
        """Whether a gradient kept by reference was written to since, or is still the parameter's `grad`."""
        if any(g._version != version or p.grad is g for p, g, version in self._references):
            return True
        return self._copied and not all(torch.equal(dense(g), dense(self._held[id(p)])) for p, g, _ in self._references)

    def of(self, parameters: Sequence[Tensor], second: Sequence[Tensor]) -> list[Tensor]:
        """The first gradients of these parameters; zero for one that had none."""
        held = self._held
        return [held[id(p)] if id(p) in held else torch.zeros_like(g) for p, g in zip(parameters, second, strict=True)]
