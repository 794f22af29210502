"""Arithmetic on lists of tensors, each function a plain loop; `foreach.py` has a faster way for the common case.

Norms are taken in pieces and combined in float64: one float32 norm over 5e7 entries is 1.9 % wrong on a CPU, because its
partial sums stop growing. On a CPU the result is a Python float; on an accelerator it stays a 0-dim tensor, so that
nothing waits for the device between the two passes.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter

import torch
from torch import Tensor

from sharpmin.core.rho import Scalar

from . import foreach
from .foreach import PIECE, are_plain
from .shards import any_sharded, is_sharded, local, locals_of, over_shards

_is_cpu, _dtype = attrgetter("is_cpu"), attrgetter("dtype")
_LOW = {torch.float16, torch.bfloat16}


def on_host(tensors: Iterable[Tensor]) -> bool:
    """Whether reading a value of these tensors costs no device synchronisation."""
    return all(map(_is_cpu, tensors))


def at_least_float32(t: Tensor) -> Tensor:
    """`t` in float32 if its dtype is float16 or bfloat16, else `t` itself."""
    return t.float() if is_low_precision(t) else t


def is_low_precision(t: Tensor) -> bool:
    """Whether `t` is float16 or bfloat16."""
    return t.dtype in _LOW


def any_low_precision(tensors: Iterable[Tensor]) -> bool:
    """Whether one of them is float16 or bfloat16."""
    return not _LOW.isdisjoint(map(_dtype, tensors))


def entries(t: Tensor) -> Tensor:
    """The stored numbers of a dense, sparse or complex tensor, as a dense real one."""
    if t.is_sparse:
        t = t.coalesce().values()
    return torch.view_as_real(t.resolve_conj()) if t.is_complex() else t


def pieces(t: Tensor) -> Iterator[Tensor]:
    """The stored numbers in runs of at most `PIECE`."""
    line = entries(t).reshape(-1)
    for piece in torch.split(line, PIECE) if line.is_cpu else [line]:  # an accelerator adds up in a tree, and fast if at once
        yield piece.contiguous()  # with a stride the norm would be added up naively


def sum_of_squares(tensors: Sequence[Tensor]) -> Scalar:
    """The sum of |entry|^2 over all tensors: shape (), a float if all are on the CPU, else a 0-dim float64 tensor.

    float32 entries of 1e-25 or 1e25 are squared in float64 before the result may be called zero or infinite.

    >>> sum_of_squares([torch.tensor([3.0]), torch.tensor([[4.0]])])
    25.0
    """
    if not tensors:
        return 0.0
    if any_sharded(tensors):
        return over_shards(sum_of_squares, [tensors])
    value = foreach.sum_of_squares(tensors)
    if value is None:
        total = _sum_of_squares(tensors, double=False)
        if not on_host(tensors):
            return total
        value = float(total)
    if value == 0.0 or not math.isfinite(value):
        value = float(_sum_of_squares(tensors, double=True))
    return value


def _sum_of_squares(tensors: Sequence[Tensor], *, double: bool) -> Tensor:
    device = tensors[0].device
    norms = []
    for t in tensors:
        for piece in pieces(t):
            dtype = torch.float64 if double else torch.float32 if is_low_precision(piece) else None
            norms.append(torch.linalg.vector_norm(piece, dtype=dtype).to(device, torch.float64))
    return torch.stack(norms).square().sum()


def sum_of_magnitudes(tensors: Sequence[Tensor]) -> Scalar:
    """The sum of |entry|, shape () as in `sum_of_squares`.

    >>> sum_of_magnitudes([torch.tensor([3.0]), torch.tensor([[-4.0]])])
    7.0
    """
    if not tensors:
        return 0.0
    if any_sharded(tensors):
        return over_shards(sum_of_magnitudes, [tensors])
    device = tensors[0].device
    sizes = [p for t in tensors for p in torch.split((t.coalesce().values() if t.is_sparse else t).reshape(-1), PIECE)]
    total = torch.stack([p.abs().sum(dtype=torch.float64).to(device) for p in sizes]).sum()
    return float(total) if on_host(tensors) else total


def largest_entry(tensors: Sequence[Tensor]) -> Scalar:
    """The largest |entry|, shape () as in `sum_of_squares`.

    >>> largest_entry([torch.tensor([3.0]), torch.tensor([[-4.0]])])
    4.0
    """
    if any_sharded(tensors):
        return over_shards(largest_entry, [tensors], torch.distributed.ReduceOp.MAX, largest)
    filled = [t.coalesce().values() if t.is_sparse else t for t in tensors if t.numel()]
    if not filled:
        return 0.0
    top = torch.stack([t.abs().max().to(filled[0].device, torch.float64) for t in filled]).max()
    return float(top) if on_host(filled) else top


def largest(values: Sequence[Scalar]) -> Scalar:
    """The largest of some numbers, without a read from the device."""
    tensors = [v for v in values if isinstance(v, Tensor)]
    if not tensors or len(values) == 1:
        return max(values)
    like = tensors[0].double()
    return torch.stack([v.to(like) if isinstance(v, Tensor) else torch.full_like(like, v) for v in values]).max()


def dense(t: Tensor) -> Tensor:
    """`t` without its sparse layout."""
    return t.to_dense() if t.is_sparse else t


def all_finite(tensors: Sequence[Tensor], first_norm: Scalar = 0.0) -> bool:
    """Whether neither `first_norm` nor any entry is inf or nan: one wait for the device, unless something is not finite.

    >>> all_finite([torch.tensor([1e200, -1e200], dtype=torch.float64)]), all_finite([torch.tensor([1.0, math.nan])])
    (True, False)
    """
    if any_sharded(tensors):
        flag = over_shards(lambda own: float(not all_finite(own)), [tensors], torch.distributed.ReduceOp.MAX, largest)
        return math.isfinite(float(first_norm)) and not flag
    if isinstance(first_norm, float) and tensors and tensors[0].is_cpu:
        with contextlib.suppress(RuntimeError):  # sparse, complex, expanded, or on two devices
            return math.isfinite(first_norm) and foreach.all_finite(tensors)
    if math.isfinite(float(sum_of_squares(tensors) + first_norm)):
        return True
    return math.isfinite(float(first_norm)) and all(bool(torch.isfinite(entries(t)).all()) for t in tensors)


def plain(t: Tensor) -> Tensor:
    """The values of a tensor that has operations of its own, such as int8 weights, as a plain one."""
    if is_sharded(t) or are_plain([t]):
        return t
    return torch.zeros(t.shape, dtype=t.dtype, device=t.device).copy_(t)


def copy_all(targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """targets = sources, in place."""
    if not targets:
        return
    targets, sources = locals_of(targets), locals_of(sources)
    if are_plain(targets):
        torch._foreach_copy_(targets, sources)
    else:
        for target, source in zip(targets, sources, strict=True):
            target.copy_(source)


def displace_all(
    weights: Sequence[Tensor], directions: Sequence[Tensor], factor: float, put: Callable[[Tensor, Tensor], None] | None = None
) -> None:
    """weights += factor * directions, in place, rounded once to the dtype of the weight; half precision needs a `put`."""
    weights, directions = locals_of(weights), locals_of(directions)
    if weights and put is None and are_plain(weights):
        torch._foreach_add_(weights, directions, alpha=factor)  # which goes one by one where it must, as for sparse ones
    else:
        for w, v in zip(weights, directions, strict=True):
            if not are_plain([w]):
                displace(w, times(v, factor))
            elif put is not None and is_low_precision(w):
                put(w, times(v, factor))
            else:
                w.add_(v, alpha=factor)


def displace(weight: Tensor, move: Tensor) -> None:
    """weight += move, in place, rounded once to the dtype of `weight`."""
    weight, move = local(weight), local(move)
    if not are_plain([weight]):
        weight.copy_(at_least_float32(plain(weight)) + dense(move))
    elif is_low_precision(weight) and not move.is_sparse:
        weight.copy_(weight.float() + move)
    else:
        weight.add_(move.to(weight.dtype) if move.is_sparse else move)


def times(t: Tensor, factor: Tensor | float) -> Tensor:
    """`t` times a number, or times a dense tensor of its shape; half precision becomes float32, sparse stays sparse."""
    if not isinstance(factor, Tensor) and factor == 1.0:
        return t
    if not t.is_sparse:
        return at_least_float32(t) * factor
    t = t.coalesce()
    own = factor[tuple(t.indices())] if isinstance(factor, Tensor) and factor.dim() else factor
    return _sparse_like(t, at_least_float32(t.values()) * own)


def _sparse_like(t: Tensor, values: Tensor) -> Tensor:
    """A coalesced sparse tensor with other values."""
    shape, device = t.shape, values.device  # said, since somebody may have set a default device
    return torch.sparse_coo_tensor(t.indices(), values, shape, device=device, is_coalesced=True, check_invariants=False)


_TINY, _HUGE = 1e-30, 1e30  # norms beyond have no room, or no precision, in float32


def divide(t: Tensor, norm: Scalar) -> Tensor:
    """The quotient; 0 where a norm that only the device knows is zero or not finite (0 * inf would be nan).

    Norms that float32 cannot hold are divided by in two steps, by a power of two first, which is exact.

    >>> divide(torch.tensor([3e-45, 0.0]), 3e-45).tolist()
    [0.93..., 0.0]
    """
    if t.is_sparse:
        t = t.coalesce()
        return _sparse_like(t, divide(t.values(), norm))
    t = at_least_float32(t)
    if not isinstance(norm, Tensor):
        factor = 2.0**96 if norm < _TINY else 2.0**-96 if norm > _HUGE else 1.0
        return t / float(norm) if factor == 1.0 else (t * factor) / (float(norm) * factor)
    n = norm.to(t.device)
    up = torch.where(n < _TINY, 2.0**96, torch.where(n > _HUGE, 2.0**-96, 1.0)).to(n)
    ok = torch.isfinite(n) & (n > 0)
    scaled: Tensor = (t * up.to(t.real.dtype)) / (n * up)
    return torch.where(ok, scaled, torch.zeros((), dtype=t.dtype, device=t.device))


def inner(lefts: Sequence[Tensor], rights: Sequence[Tensor]) -> Scalar:
    """The real inner product of two lists of dense tensors of equal shapes, summed in float64.

    >>> inner([torch.tensor([1.0, 2.0])], [torch.tensor([3.0, 4.0])])
    11.0
    """
    if not lefts:
        return 0.0
    if any_sharded(lefts):
        return over_shards(inner, [lefts, rights])
    if foreach.serves(lefts) and list(map(_dtype, lefts)) == list(map(_dtype, rights)) and foreach.serves(rights):
        return foreach.inner(lefts, rights)
    device = lefts[0].device
    total = torch.zeros((), dtype=torch.float64, device=device)
    for left, right in zip(lefts, rights, strict=True):
        for a, b in zip(pieces(left), pieces(right), strict=True):
            total += torch.dot(a.double(), b.double()).to(device)
    return float(total) if on_host(lefts) else total
