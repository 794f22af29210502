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
SMALL = 16_384  # below, a call costs more than to copy
_flatten: Any = torch._utils._flatten_dense_tensors  # untyped in torch
_kind, _dtype = attrgetter("dtype", "layout", "is_cpu"), attrgetter("dtype")
PLAIN = {Tensor, torch.nn.Parameter}
_SERVED = {(dtype, torch.strided, True) for dtype in (torch.float32, torch.float64)}


def are_plain(tensors: Sequence[Tensor]) -> bool:
    """Whether none has operations of its own, as int8 weights do: those may have few, and round what is written."""
    kinds: set[Any] = set(map(type, tensors))
    return PLAIN.issuperset(kinds) or all(kind.__torch_dispatch__ == Tensor.__torch_dispatch__ for kind in kinds)


def serves(tensors: Sequence[Tensor]) -> bool:
    """Whether this module can take these tensors."""
    return _SERVED.issuperset(map(_kind, tensors)) and are_plain(tensors)


def sum_of_squares(tensors: Sequence[Tensor]) -> float | None:
    """The sum of squares, or None if these tensors are not served: asked when they lie together, since each question costs."""
    if not tensors[0].is_cpu:
        return None
    sizes = list(map(Tensor.numel, tensors))
    small, own = tensors, list[Tensor]()
    if max(sizes) >= SMALL:
        small = [t for t, size in zip(tensors, sizes, strict=True) if size < SMALL]
        own = [t for t, size in zip(tensors, sizes, strict=True) if size >= SMALL]
    if small:
        try:
            own.append(_flatten(small))
        except RuntimeError:  # sparse, or on several devices
            return None
    if not serves(own):
        return None
    views = [piece.contiguous() for t in own for piece in torch.split(t.reshape(-1), PIECE)]
    norms: list[float] = torch.stack(torch._foreach_norm(views)).tolist()
    return sum(norm * norm for norm in norms)


def inner(lefts: Sequence[Tensor], rights: Sequence[Tensor]) -> float:
    """The inner product of two lists of equal shapes and dtypes."""
    return float(_stacked([torch.dot(a, b) for a, b in _side_by_side(lefts, rights)]).sum())


def products(clean: Sequence[Tensor], perturbed: Sequence[Tensor]) -> Tensor:
    """`||g||^2, <D, g>, ||D||^2` with D = G - g, float64, shape (3,): each gradient is read from memory once."""
    dots, scratch = list[Tensor](), {dtype: torch.empty(PIECE, dtype=dtype, device="cpu") for dtype in set(map(_dtype, clean))}
    for g, other in _side_by_side(clean, perturbed):
        d = torch.sub(other, g, out=scratch[g.dtype][: g.numel()])
        dots += [torch.dot(g, g), torch.dot(d, g), torch.dot(d, d)]
    return _stacked(dots).view(-1, 3).sum(0)


def _stacked(numbers: list[Tensor]) -> Tensor:
    """0-dim tensors as one in float64."""
    if len(set(map(_dtype, numbers))) > 1:
        numbers = [number.double() for number in numbers]
    return torch.stack(numbers).double()


def _side_by_side(lefts: Sequence[Tensor], rights: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """The entries of two lists of equal shapes and dtypes in step, in pieces."""
    sizes = list(map(Tensor.numel, lefts))
    sides = [(a.reshape(-1), b.reshape(-1)) for a, b, size in zip(lefts, rights, sizes, strict=True) if size >= SMALL]
    for dtype in set(map(_dtype, lefts)):
        own = [i for i, size in enumerate(sizes) if size < SMALL and lefts[i].dtype is dtype]
        if own:
            sides.append((_flatten([lefts[i] for i in own]), _flatten([rights[i] for i in own])))
    for a, b in sides:
        yield from zip(torch.split(a, PIECE), torch.split(b, PIECE), strict=True)


def all_finite(tensors: Sequence[Tensor]) -> bool:
    """Whether no entry is inf or nan."""
    found, one = torch.zeros(1, device="cpu"), torch.ones(1, device="cpu")
    torch._amp_foreach_non_finite_check_and_unscale_(list(tensors), found, one)
    return not bool(found)
