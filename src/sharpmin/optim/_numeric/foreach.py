"""The functions of `loops.py` in a few calls for a whole list: dense real floating tensors of one device and one dtype a list.

On an accelerator one call launches a kernel for up to several thousand tensors; on a CPU small tensors are flattened together,
since a call costs more than their arithmetic, and large ones are cut into pieces, since long float32 sums are inexact.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from sharpmin.core.rho import Scalar

from .kinds import LOW, PIECE, kind_of, on_host
from .lines import SCRATCH, Lines, cut, room, runs
from .rounding import StochasticRounding

SMALL = 16_384  # entries below which a call costs more than a copy
_flatten: Any = torch._utils._flatten_dense_tensors  # untyped in torch
_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def serves(*lists: Sequence[Tensor]) -> bool:
    """Whether this module can serve these parallel lists: each of one dtype, all on one device, dense and real."""
    return all(t[0].dtype in _DTYPES for t in lists if t) and copies(*lists)


def copies(*lists: Sequence[Tensor]) -> bool:
    """Whether this module can copy these parallel lists: each of one dtype, any one, all on one device, dense."""
    kinds = list(map(kind_of, lists))
    sides = {kind is not None and kind[1] for kind in kinds}
    if None in kinds:
        return False
    return sides == {True} or (sides == {False} and len({t.device for tensors in lists for t in tensors}) == 1)


def sum_of_squares(tensors: list[Tensor]) -> Tensor:
    """The sum of squares: shape (), float64."""
    return torch.stack(_norms(tensors, 2)).double().square().sum()


def sum_of_magnitudes(tensors: list[Tensor]) -> Tensor:
    """The sum of |entry|."""
    return torch.stack(_norms(tensors, 1)).double().sum()


def largest_entry(tensors: list[Tensor]) -> Tensor:
    """The largest |entry|, 0 without entries."""
    filled = [t for t in tensors if t.numel()]
    if not filled:
        return torch.zeros((), dtype=torch.float64, device=tensors[0].device)
    return torch.stack(torch._foreach_norm(filled, torch.inf)).max().double()


def _norms(tensors: list[Tensor], order: int) -> list[Tensor]:
    """The norms of pieces that make up the list, in float32 at least."""
    dtype = torch.float32 if tensors[0].dtype in LOW else None
    if order == 1 and tensors[0].is_cpu:
        dtype = torch.float64  # there the 1-norm adds entries one by one
    return list(torch._foreach_norm(_pieces(tensors), order, dtype=dtype))


def _pieces(tensors: list[Tensor]) -> list[Tensor]:
    """All entries in few contiguous pieces; on an accelerator, which adds up in a tree, the tensors themselves."""
    if not tensors[0].is_cpu:
        return list(tensors)
    sizes = list(map(Tensor.numel, tensors))
    small, own = tensors, list[Tensor]()
    if max(sizes) >= SMALL:
        small = [t for t, size in zip(tensors, sizes, strict=True) if size < SMALL]
        own = [t for t, size in zip(tensors, sizes, strict=True) if size >= SMALL]
    if small:
        own.append(_flatten(small))
    return [piece.contiguous() for t in own for piece in torch.split(t.reshape(-1), PIECE)]


def inner(lefts: list[Tensor], rights: list[Tensor]) -> Tensor:
    """The inner product: shape (), float64."""
    if on_host(lefts[:1]):
        return torch.stack([torch.dot(a, b) for a, b in _side_by_side(lefts, rights)]).double().sum()
    return torch.stack([_signed(multiply(*both)) for both in parts(lefts, rights)]).sum()


def products(clean: list[Tensor], perturbed: list[Tensor]) -> Tensor:
    """`||g||^2, <D, g>, ||D||^2` with D = G - g: float64, shape (3,); on a CPU each gradient is read from memory once."""
    if not on_host(clean[:1]):
        return torch.stack([_products(*both) for both in parts(clean, perturbed)]).sum(0)
    dots, scratch = list[Tensor](), torch.empty(PIECE, dtype=_wide(clean[0].dtype), device="cpu")
    for g, other in _side_by_side(clean, perturbed):
        d = torch.sub(other, g, out=scratch[: g.numel()])
        dots += [torch.dot(g, g), torch.dot(d, g), torch.dot(d, d)]
    return torch.stack(dots).double().view(-1, 3).sum(0)


def _products(clean: list[Tensor], perturbed: list[Tensor]) -> Tensor:
    g = widened(clean)
    d = list(torch._foreach_sub(widened(perturbed), g))
    squares = [sum_of_squares(g), sum_of_squares(d)]
    torch._foreach_mul_(d, g)
    return torch.stack([squares[0], _signed(d), squares[1]])


def _signed(tensors: list[Tensor]) -> Tensor:
    """The sum of all entries, overwriting them: foreach has no sum, but a 1-norm."""
    magnitudes = sum_of_magnitudes(tensors)
    torch._foreach_clamp_min_(tensors, 0.0)
    return 2 * sum_of_magnitudes(tensors) - magnitudes


def _side_by_side(lefts: list[Tensor], rights: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs of pieces of two lists of equal shapes, in float32 at least."""
    sizes = list(map(Tensor.numel, lefts))
    sides = [(a.reshape(-1), b.reshape(-1)) for a, b, size in zip(lefts, rights, sizes, strict=True) if size >= SMALL]
    small = [i for i, size in enumerate(sizes) if size < SMALL]
    if small:
        sides.append((_flatten([lefts[i] for i in small]), _flatten([rights[i] for i in small])))
    wide = torch.promote_types(_wide(lefts[0].dtype), rights[0].dtype)
    for a, b in sides:
        for x, y in zip(torch.split(a, PIECE), torch.split(b, PIECE), strict=True):
            yield x.to(wide), y.to(wide)


def all_finite(tensors: list[Tensor]) -> bool:
    """Whether no entry is inf or nan: one wait for the device."""
    found, one = (torch.full((1,), value, device=tensors[0].device) for value in (0.0, 1.0))
    torch._amp_foreach_non_finite_check_and_unscale_(list(tensors), found, one)
    return not bool(found)


def copy_all(targets: list[Tensor], sources: list[Tensor]) -> None:
    """targets = sources, in place."""
    torch._foreach_copy_(targets, sources)


def clone_all(tensors: list[Tensor]) -> list[Tensor]:
    """A copy of each, in memory of its own."""
    copies = [torch.empty_like(t, requires_grad=False) for t in tensors]
    torch._foreach_copy_(copies, tensors)
    return copies


def widened(tensors: list[Tensor]) -> list[Tensor]:
    """The tensors in float32 if they are float16 or bfloat16, else unchanged."""
    if tensors[0].dtype not in LOW:
        return list(tensors)
    copies = [torch.empty_like(t, dtype=torch.float32, requires_grad=False) for t in tensors]
    torch._foreach_copy_(copies, tensors)
    return copies


def _wide(*dtypes: torch.dtype) -> torch.dtype:
    """The dtype that can hold all of them, float32 at least."""
    dtype = torch.float32
    for own in dtypes:
        dtype = torch.promote_types(dtype, own)
    return dtype


def add_all(
    weights: list[Tensor], vectors: list[Tensor], factor: Scalar, rounding: StochasticRounding | None, lines: Lines
) -> None:
    """weights += factor * vectors; a factor on a device moves nothing if it is 0 or not finite."""
    low = weights[0].dtype in LOW
    if isinstance(factor, Tensor):
        if (rounding is None or not low) and not weights[0].is_cpu and _fused(weights, vectors, factor):
            return
    elif not low:
        torch._foreach_add_(weights, vectors, alpha=factor)
        return
    _add_by_lines(weights, vectors, factor, rounding if low else None, lines)


def _fused(weights: list[Tensor], vectors: list[Tensor], factor: Tensor) -> bool:
    """weights += factor * vectors by torch's fused SGD, if it can: one launch that reads the factor on the device.

    It rounds once, also to half precision, and does nothing if `found_inf` is set. Its rate is float32.
    """
    if weights[0].dtype is torch.float64 or vectors[0].dtype is not weights[0].dtype:
        return False
    rate = factor.float()
    stays = (~torch.isfinite(rate) | (rate == 0)).float()
    plain_sgd: Any = {"weight_decay": 0.0, "momentum": 0.0, "dampening": 0.0, "nesterov": False, "is_first_step": False}
    try:
        torch._fused_sgd_(weights, vectors, [], lr=rate, maximize=True, found_inf=stays, **plain_sgd)
    except RuntimeError:  # not on this device, or other strides: torch refuses before any launch
        return False
    return True


def _add_by_lines(
    weights: list[Tensor], vectors: list[Tensor], factor: Scalar, rounding: StochasticRounding | None, lines: Lines
) -> None:
    """weights += factor * vectors by scratch memory of the wider dtype, rounded once."""
    wide = _wide(weights[0].dtype, vectors[0].dtype)
    count = 1 if weights[0].dtype is wide else 2
    weights, vectors = cut(room(wide, count), weights, vectors)
    if isinstance(factor, Tensor):
        factor = torch.nan_to_num(factor, nan=0.0, posinf=0.0, neginf=0.0).to(wide)
    for rows, (move, *rest) in lines.like(weights, wide, count):
        torch._foreach_copy_(move.views, vectors[rows])
        move.flat.mul_(factor)
        if isinstance(factor, Tensor):
            move.flat.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)  # not 0 * inf: a norm that is not finite moves nothing
        for line in rest:
            torch._foreach_copy_(line.views, weights[rows])
            move.flat.add_(line.flat)
            if rounding is not None:
                move.flat.copy_(rounding.rounded(move.flat, weights[0].dtype))
        if rest:
            torch._foreach_copy_(weights[rows], move.views)
        else:
            torch._foreach_add_(weights[rows], move.views)


def multiply(tensors: list[Tensor], factors: list[Any]) -> list[Tensor]:
    """Each times a number, or times a tensor of its shape or of shape (), in float32 at least."""
    by: Any = widened(factors) if isinstance(factors[0], Tensor) else factors
    return list(torch._foreach_mul(widened(tensors), by))


def scale_all(tensors: list[Tensor], factor: Scalar) -> list[Tensor]:
    """Each times one number, in float32 at least."""
    if isinstance(factor, Tensor):
        factor = factor.to(tensors[0].device, _wide(tensors[0].dtype))
    return list(torch._foreach_mul(widened(tensors), factor))


def negated(tensors: list[Tensor]) -> list[Tensor]:
    """The negative of each."""
    return list(torch._foreach_neg(tensors))


def signs(tensors: list[Tensor]) -> list[Tensor]:
    """The sign of each entry."""
    return list(torch._foreach_sign(tensors))


def magnitudes(tensors: list[Tensor], plus: float) -> list[Tensor]:
    """|entry| + plus, in float32 at least."""
    found = list(torch._foreach_abs(widened(tensors)))
    torch._foreach_add_(found, plus)
    return found


def square_roots(tensors: list[Tensor], plus: float) -> list[Tensor]:
    """sqrt(entry) + plus, in float32 at least."""
    found = list(torch._foreach_sqrt(widened(tensors)))
    torch._foreach_add_(found, plus)
    return found


def quotients(lefts: list[Tensor], rights: list[Tensor]) -> list[Tensor]:
    """left / right, in float32 at least."""
    return list(torch._foreach_div(widened(lefts), widened(rights)))


def norms(tensors: list[Tensor]) -> list[Tensor]:
    """The L2 norm of each, in float32 at least."""
    return list(torch._foreach_norm(tensors, 2, dtype=torch.float32 if tensors[0].dtype in LOW else None))


def are_finite(tensors: list[Tensor]) -> list[Tensor]:
    """Whether no entry of each is inf or nan, as tensors of shape ()."""
    filled = [t if t.numel() else t.new_zeros(1) for t in tensors]
    return list(torch.isfinite(torch.stack(torch._foreach_norm(filled, torch.inf))).unbind())


def differences(lefts: list[Tensor], rights: list[Tensor]) -> list[Tensor]:
    """left - right, in float32 at least."""
    return list(torch._foreach_sub(widened(lefts), widened(rights)))


def combine(lefts: list[Tensor], rights: list[Tensor], a: Scalar, b: Scalar) -> list[Tensor]:
    """a left + b right, in the dtype of the left, rounded once."""
    wide = _wide(lefts[0].dtype)
    a, b = (s.to(lefts[0].device, wide) if isinstance(s, Tensor) else s for s in (a, b))
    total = list(torch._foreach_mul(widened(lefts), a))
    for own, right in parts(total, widened(rights)):
        if isinstance(b, Tensor):
            torch._foreach_add_(own, torch._foreach_mul(right, b))
        else:
            torch._foreach_add_(own, right, alpha=b)
    if wide is lefts[0].dtype:
        return total
    out = [torch.empty_like(t, requires_grad=False) for t in lefts]
    torch._foreach_copy_(out, total)
    return out


def parts(*lists: list[Tensor], whole: bool = False) -> Iterator[list[list[Tensor]]]:
    """Split parallel lists into parts that fit the scratch memory."""
    most = SCRATCH // _wide(*(tensors[0].dtype for tensors in lists)).itemsize
    pieces = [list(tensors) for tensors in lists] if whole else cut(most, *lists)
    for rows in runs(list(map(Tensor.numel, pieces[0])), most):
        yield [tensors[rows] for tensors in pieces]
