"""The polar factor U V^T of tensors seen as matrices, the first dimension by the rest; a vector is one column."""

from __future__ import annotations

import torch
from torch import Tensor

from sharpmin.core.rho import Scalar

from .kinds import at_least_float32, dense, on_host
from .loops import divide
from .sums import largest, sum_of_squares

_ROUNDS = {4: 24, 8: 48}  # by bytes per real number: enough iterations for small singular values, too few for rounding noise


def matrix(t: Tensor) -> Tensor:
    """`t`, dense and in float32 at least, as a matrix."""
    t = at_least_float32(dense(t))
    return t.reshape(t.shape[0], -1) if t.dim() > 1 and t.numel() else t.reshape(-1, 1)


def polar(t: Tensor, *, iterate: bool) -> Tensor:
    """U V^T on the range of `t`, of its shape: zero where it is zero, and where an entry is not finite.

    Args:
        t: the tensor.
        iterate: by Newton-Schulz instead of the singular value decomposition.

    >>> polar(torch.tensor([[0.0, 3.0], [0.0, 0.0]]), iterate=False)
    tensor([[0., 1.],
            [0., 0.]])
    """
    m = matrix(t)
    m = torch.where(torch.isfinite(m).all(), m, 0.0)
    if min(m.shape) <= 1:
        return _unit(m).reshape(t.shape)
    return (_newton_schulz(m) if iterate else _by_svd(m)).reshape(t.shape)


def operator_norm(tensors: list[Tensor]) -> Scalar:
    """The largest singular value of all of them: a float if all are on the CPU."""
    tops = [torch.linalg.svdvals(matrix(t)).max() for t in tensors if t.numel()]
    return largest([float(top) if on_host([top]) else top for top in tops] or [0.0])


def _unit(m: Tensor) -> Tensor:
    """m / ||m||, 0 where m is 0."""
    norm = sum_of_squares([m]) ** 0.5
    return m if isinstance(norm, float) and norm == 0 else divide(m, norm)


def _by_svd(m: Tensor) -> Tensor:
    u, s, vh = torch.linalg.svd(m, full_matrices=False)
    in_range = s > s.max() * (max(m.shape) * torch.finfo(s.dtype).eps)
    factor: Tensor = (u * in_range) @ vh
    return factor


def _newton_schulz(m: Tensor) -> Tensor:
    """x <- x (3 - x^T x) / 2, which moves every singular value in (0, 1] towards 1, at first by a factor of 3/2.

    From ||m||_2 down to 1e-3 of it, or 1e-7 in float64, they come to 1 within 1e-3; smaller ones stay between 0 and 1.
    """
    x = _unit(m)
    x = x.mH if x.shape[0] < x.shape[1] else x
    for _ in range(_ROUNDS[torch.finfo(m.dtype).bits // 8]):
        x = 1.5 * x - 0.5 * (x @ (x.mH @ x))
    return x.mH if m.shape[0] < m.shape[1] else x
