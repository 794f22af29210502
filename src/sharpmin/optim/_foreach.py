"""The common case, fast: dense real float32 or float64 tensors on the CPU, in a few calls for all of them.

Everything here equals the plain loops of `tensors.py`, which decides who serves. Small tensors are flattened together,
since a call costs more than their arithmetic; big ones are seen in pieces, so that no float32 sum grows too long.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

PIECE = 65_536
_flatten: Any = torch._utils._flatten_dense_tensors  # untyped in torch
_DTYPES = (torch.float32, torch.float64)
_kind, _dtype = attrgetter("dtype", "layout", "is_cpu"), attrgetter("dtype")
_SERVED = {(dtype, torch.strided, True) for dtype in _DTYPES}


def serves(tensors: Sequence[Tensor]) -> bool:
    """Whether this module can take these tensors."""
    return _SERVED.issuperset(map(_kind, tensors))


def sum_of_squares(tensors: Sequence[Tensor]) -> float:
    """The sum of squares."""
    norms: list[float] = []
    for own in _by_dtype(tensors):
        sizes = list(map(Tensor.numel, own))
        small, views = own, list[Tensor]()
        if max(sizes) >= PIECE:
            small = [t for t, size in zip(own, sizes, strict=True) if size < PIECE]
            big = [t.reshape(-1) for t, size in zip(own, sizes, strict=True) if size >= PIECE]
            views = [piece.contiguous() for t in big for piece in torch.split(t, PIECE)]
        if small:
            flat = _flatten(small)
            views += flat.chunk(-(-flat.numel() // PIECE) or 1)
        norms += torch.stack(torch._foreach_norm(views)).tolist()
    return sum(norm * norm for norm in norms)


def _by_dtype(tensors: Sequence[Tensor]) -> Iterator[Sequence[Tensor]]:
    """The tensors of each dtype."""
    kinds = set(map(_dtype, tensors))
    for kind in kinds:
        yield tensors if len(kinds) == 1 else [t for t in tensors if t.dtype is kind]


def inner(lefts: Sequence[Tensor], rights: Sequence[Tensor]) -> Tensor:
    """The inner product of two lists of equal shapes and dtypes, a float64 tensor of shape ()."""
    dots: list[Tensor] = []
    small = [i for i, t in enumerate(lefts) if t.numel() < PIECE]
    sides = [(lefts[i].reshape(-1), rights[i].reshape(-1)) for i in range(len(lefts)) if lefts[i].numel() >= PIECE]
    for dtype in _DTYPES:
        own = [i for i in small if lefts[i].dtype is dtype]
        if own:
            sides.append((_flatten([lefts[i] for i in own]), _flatten([rights[i] for i in own])))
    for a, b in sides:
        dots += [torch.dot(x, y).double() for x, y in zip(torch.split(a, PIECE), torch.split(b, PIECE), strict=True)]
    return torch.stack(dots).sum()


def all_finite(tensors: Sequence[Tensor]) -> bool:
    """Whether no entry is inf or nan."""
    found, one = torch.zeros(1), torch.ones(1)
    torch._amp_foreach_non_finite_check_and_unscale_(list(tensors), found, one)
    return not bool(found)
