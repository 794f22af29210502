"""Buffers for the copy of w, reused in every step: on a CPU, new memory pages cost six times the copy itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter, is_
from typing import Any

import torch
from torch import Tensor

_shape = attrgetter("dtype", "shape")  # all are on the host


@dataclass(frozen=True)
class _Buffers:
    """Weights, a buffer for each, and their layouts; replaced as a whole, so that an interrupt leaves none half-made."""

    weights: list[Tensor] = field(default_factory=list)
    copies: list[Tensor] = field(default_factory=list)
    shapes: list[Any] = field(default_factory=list)


class BackupBuffers:
    """A buffer for each weight that was perturbed; copies and pickles are empty.

    >>> w, buffers = torch.ones(2), BackupBuffers()
    >>> buffers.like([w], [w])[0] is buffers.like([w], [w])[0]
    True
    """

    def __init__(self) -> None:
        self._own = _Buffers()

    def like(self, weights: Sequence[Tensor], parameters: Iterable[Tensor]) -> list[Tensor]:
        """A buffer like each weight, with undefined values; buffers of other tensors than `parameters` are freed."""
        own = self._own
        if len(weights) != len(own.weights) or not all(map(is_, weights, own.weights)):
            own = self._own = _rebuilt(own, weights, parameters)
        shapes = list(map(_shape, weights))
        if shapes != own.shapes[: len(weights)]:
            fit = [c if _shape(c) == s else _empty(w) for w, c, s in zip(weights, own.copies, shapes, strict=False)]
            rest = len(weights)
            own = self._own = _Buffers(own.weights, fit + own.copies[rest:], shapes + own.shapes[rest:])
        return own.copies[: len(weights)]

    def __getstate__(self) -> dict[str, Any]:
        return {"_own": _Buffers()}


def _rebuilt(own: _Buffers, weights: Sequence[Tensor], parameters: Iterable[Tensor]) -> _Buffers:
    """Buffers for these weights, then the existing ones of other current parameters."""
    copies = {id(w): (w, copy) for w, copy in zip(own.weights, own.copies, strict=True)}
    still = {id(p) for p in parameters}
    asked = {id(w) for w in weights}
    kept = [pair for key, pair in copies.items() if key in still and key not in asked]
    pairs = [copies.get(id(w)) or (w, _empty(w)) for w in weights] + kept
    made = [copy for _, copy in pairs]
    return _Buffers([w for w, _ in pairs], made, list(map(_shape, made)))


def _empty(w: Tensor) -> Tensor:
    with torch.inference_mode(False):  # a tensor made in inference mode cannot be written to outside
        return torch.empty_like(w, requires_grad=False)
