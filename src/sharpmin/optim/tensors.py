"""Arithmetic on lists of tensors: the readable per-tensor code that any faster path has to equal.

Norms are taken in pieces and combined in float64: one float32 norm over 5e7 entries is 1.9 % wrong on a CPU, because its
partial sums stop growing. On a CPU the result is a Python float; on an accelerator it stays a 0-dim tensor, so that
nothing waits for the device between the two passes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from sharpmin.core.rho import Scalar

PIECE = 65_536


def on_host(tensors: Iterable[Tensor]) -> bool:
    """Whether reading a value of these tensors costs no device synchronisation."""
    return all(t.device.type == "cpu" for t in tensors)


def wide(t: Tensor) -> Tensor:
    """`t` in float32 if its dtype is float16 or bfloat16, else `t` itself."""
    return t.float() if is_low_precision(t) else t


def is_low_precision(t: Tensor) -> bool:
    """Whether `t` is float16 or bfloat16."""
    return t.dtype in (torch.float16, torch.bfloat16)


def sum_of_squares(tensors: Sequence[Tensor]) -> Scalar:
    """The sum of |entry|^2 over all tensors: shape (), a float if all are on the CPU, else a 0-dim float64 tensor.

    float32 entries of 1e-25 or 1e25 are squared in float64 before the result may be called zero or infinite.

    >>> sum_of_squares([torch.tensor([3.0]), torch.tensor([[4.0]])])
    25.0
    """
    if not tensors:
        return 0.0
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
        for piece in torch.split(_entries(t).reshape(-1), PIECE):
            dtype = torch.float64 if double else torch.float32 if is_low_precision(piece) else None
            norms.append(torch.linalg.vector_norm(piece, dtype=dtype).to(device, torch.float64))
    return torch.stack(norms).square().sum()


def _entries(t: Tensor) -> Tensor:
    """The stored numbers of a dense, sparse or complex tensor, as a dense real one."""
    if t.is_sparse:
        t = t.coalesce().values()
    return torch.view_as_real(t) if t.is_complex() else t


def all_finite(tensors: Sequence[Tensor], first_norm: Scalar = 0.0) -> bool:
    """Whether neither `first_norm` nor any entry is inf or nan: one wait for the device, unless something is not finite.

    >>> all_finite([torch.tensor([1e200, -1e200], dtype=torch.float64)]), all_finite([torch.tensor([1.0, math.nan])])
    (True, False)
    """
    if math.isfinite(float(sum_of_squares(tensors) + first_norm)):
        return True
    return math.isfinite(float(first_norm)) and all(bool(torch.isfinite(_entries(t)).all()) for t in tensors)


def displace(weight: Tensor, direction: Tensor, radius: Scalar) -> None:
    """weight += radius * direction, in place, rounded once to the dtype of `weight`; `direction` is consumed."""
    direction.mul_(radius.to(direction.device) if isinstance(radius, Tensor) else radius)
    if is_low_precision(weight) and not direction.is_sparse:
        weight.copy_(weight.float() + direction)
    else:
        weight.add_(direction.to(weight.dtype))


def inner(lefts: Sequence[Tensor], rights: Sequence[Tensor]) -> Scalar:
    """The real inner product of two lists of dense tensors of equal shapes, summed in float64.

    >>> inner([torch.tensor([1.0, 2.0])], [torch.tensor([3.0, 4.0])])
    11.0
    """
    device = lefts[0].device
    total = torch.zeros((), dtype=torch.float64, device=device)
    for left, right in zip(lefts, rights, strict=True):
        flat = (torch.split(_entries(t).reshape(-1), PIECE) for t in (left, right))
        for a, b in zip(*flat, strict=True):
            total += torch.dot(a.double(), b.double()).to(device)
    return float(total) if on_host(lefts) else total
