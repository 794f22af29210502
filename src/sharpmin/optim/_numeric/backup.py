"""Memory for the copy of w, kept from step to step: on a CPU fresh pages cost six times the copy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter, is_
from typing import Any

import torch
from torch import Tensor

_shape = attrgetter("dtype", "shape")  # all are on the host


class Pool:
    """One tensor for each weight that has been asked for; copied and pickled empty.

    >>> w, pool = torch.ones(2), Pool()
    >>> pool.like([w], [w])[0] is pool.like([w], [w])[0]
    True
    """

    def __init__(self) -> None:
        self._weights: list[Tensor] = []
        self._copies: list[Tensor] = []
        self._shapes: list[Any] = []

    def like(self, weights: Sequence[Tensor], parameters: Iterable[Tensor]) -> list[Tensor]:
        """A tensor like each weight, with any values; lets go of what belongs to none of `parameters`."""
        if len(weights) != len(self._weights) or not all(map(is_, weights, self._weights)):
            self._rebuild(weights, parameters)
        shapes = list(map(_shape, weights))
        known = self._shapes[: len(weights)]
        if shapes != known:
            for i, (new, old) in enumerate(zip(shapes, known, strict=True)):
                if new != old:
                    self._copies[i], self._shapes[i] = _empty(weights[i]), new
        return self._copies[: len(weights)]

    def _rebuild(self, weights: Sequence[Tensor], parameters: Iterable[Tensor]) -> None:
        """These weights first, then whatever else has a copy and is still a parameter."""
        copies = {id(w): (w, copy) for w, copy in zip(self._weights, self._copies, strict=True)}
        own = {id(p) for p in parameters}
        asked = {id(w) for w in weights}
        kept = [pair for key, pair in copies.items() if key in own and key not in asked]
        pairs = [copies.get(id(w)) or (w, _empty(w)) for w in weights] + kept
        self._weights, self._copies = [w for w, _ in pairs], [copy for _, copy in pairs]
        self._shapes = list(map(_shape, self._copies))

    def __getstate__(self) -> dict[str, Any]:
        return {"_weights": [], "_copies": [], "_shapes": []}


def _empty(w: Tensor) -> Tensor:
    return torch.empty_like(w, requires_grad=False)
