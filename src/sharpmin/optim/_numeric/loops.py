"""The reference: every function as a plain loop, for tensors of any kind, sparse, complex, and tensor subclasses.

`foreach.py` has the same functions for dense real tensors of one device, in a few calls for all of them; `tensors.py` chooses.
Sums are taken in pieces and combined in float64, as a 0-dim tensor on the device of the first: one float32 norm over 5e7
entries is 1.9 % wrong on a CPU, because its partial sums stop growing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sharpmin.core.rho import Scalar

from .kinds import PIECE, are_plain, at_least_float32, dense, entries, is_low_precision, pieces, plain
from .lines import Lines
from .rounding import StochasticRounding

Factor = Tensor | float


def sum_of_squares(tensors: Sequence[Tensor], *, double: bool = False) -> Tensor:
    """The sum of |entry|^2; with `double` entries are squared in float64."""
    device, norms = tensors[0].device, []
    for t in tensors:
        for piece in pieces(t):
            dtype = torch.float64 if double else torch.float32 if is_low_precision(piece) else None
            norms.append(torch.linalg.vector_norm(piece, dtype=dtype).to(device, torch.float64))
    return torch.stack(norms).square().sum()


def sum_of_magnitudes(tensors: Sequence[Tensor]) -> Tensor:
    """The sum of |entry|."""
    device = tensors[0].device
    sizes = [p for t in tensors for p in torch.split(_values(t).reshape(-1), PIECE)]
    return torch.stack([p.abs().sum(dtype=torch.float64).to(device) for p in sizes]).sum()


def largest_entry(tensors: Sequence[Tensor]) -> Tensor:
    """The largest |entry|, 0 without entries."""
    device = tensors[0].device
    sizes = [_values(t).abs().max().to(device, torch.float64) for t in tensors if _values(t).numel()]
    return torch.stack(sizes).max() if sizes else torch.zeros((), dtype=torch.float64, device=device)


def inner(lefts: Sequence[Tensor], rights: Sequence[Tensor]) -> Tensor:
    """The real inner product of dense tensors."""
    device = lefts[0].device
    total = torch.zeros((), dtype=torch.float64, device=device)
    for left, right in zip(lefts, rights, strict=True):
        for a, b in zip(pieces(left), pieces(right), strict=True):
            total += torch.dot(a.double(), b.double()).to(device)
    return total


def products(
    clean: Sequence[Tensor], perturbed: Sequence[Tensor], precise: Callable[[Tensor], Tensor] = at_least_float32
) -> Tensor:
    """`||g||^2, <D, g>, ||D||^2` with D = G - g of dense tensors: float64, shape (3,)."""
    total = torch.zeros(3, dtype=torch.float64, device=clean[0].device)
    for whole in zip(clean, perturbed, strict=True):
        for g, second in zip(*map(pieces, whole), strict=True):
            first = precise(g)
            d = precise(second) - first
            total += torch.stack([torch.dot(a, b).double() for a, b in ((first, first), (d, first), (d, d))]).to(total)
    return total


def all_finite(tensors: Sequence[Tensor]) -> bool:
    """Whether no entry is inf or nan."""
    return all(bool(torch.isfinite(entries(t)).all()) for t in tensors)


def copy_all(targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """targets = sources, in place."""
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source)


def clone_all(tensors: Sequence[Tensor]) -> list[Tensor]:
    """A copy of each, in memory of its own."""
    return [t.detach().clone() for t in tensors]


def add_all(
    weights: Sequence[Tensor], vectors: Sequence[Tensor], factor: Scalar, rounding: StochasticRounding | None, lines: Lines
) -> None:
    """weights += factor * vectors; a factor on a device moves nothing if it is 0 or not finite."""
    put = displace if rounding is None else rounding.displace
    for w, v in zip(weights, vectors, strict=True):
        if isinstance(factor, Tensor):
            move = _masked_product(dense(v), factor)
        elif are_plain([w]) and not is_low_precision(w):
            w.add_(v, alpha=factor)
            continue
        else:
            move = times(v, factor)
        (put if are_plain([w]) else displace)(w, move)


def _masked_product(v: Tensor, factor: Tensor) -> Tensor:
    """factor v, and 0 where the factor is 0 or not finite, whatever v holds."""
    v, factor = at_least_float32(v), factor.to(v.device)
    ok = torch.isfinite(factor) & (factor != 0)
    product: Tensor = torch.where(ok, v * factor.to(v.real.dtype), torch.zeros((), dtype=v.dtype, device=v.device))
    return product


def displace(weight: Tensor, move: Tensor) -> None:
    """weight += move, in place, rounded once to the dtype of `weight`."""
    if not are_plain([weight]):
        weight.copy_(at_least_float32(plain(weight)) + dense(move))
    elif is_low_precision(weight) and not move.is_sparse:
        weight.copy_(weight.float() + move)
    else:
        weight.add_(move.to(weight.dtype) if move.is_sparse else move)


def multiply(tensors: Sequence[Tensor], factors: Sequence[Factor]) -> list[Tensor]:
    """Each times its factor, as `times` says."""
    return [times(t, factor) for t, factor in zip(tensors, factors, strict=True)]


def times(t: Tensor, factor: Factor) -> Tensor:
    """`t` times a number, or times a dense tensor of its shape; half precision becomes float32, sparse stays sparse."""
    if not isinstance(factor, Tensor) and factor == 1.0:
        return t
    if not t.is_sparse:
        return at_least_float32(t) * factor
    t = t.coalesce()
    own = factor[tuple(t.indices())] if isinstance(factor, Tensor) and factor.dim() else factor
    return _sparse_like(t, at_least_float32(t.values()) * own)


def scale_all(tensors: Sequence[Tensor], factor: Scalar) -> list[Tensor]:
    """Each times one number; half precision becomes float32, sparse stays sparse."""
    return [_scaled(t, factor) for t in tensors]


def _scaled(t: Tensor, factor: Scalar) -> Tensor:
    if isinstance(factor, Tensor):
        factor = factor.to(t.device, at_least_float32(entries(t)).dtype)
        own = at_least_float32(_values(t)) * factor
        return _sparse_like(t.coalesce(), own) if t.is_sparse else own
    return times(t, factor)


def negated(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The negative of each."""
    return [-t for t in tensors]


def signs(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The sign of each entry, a / |a| of a complex one."""
    return [torch.sgn(t.coalesce() if t.is_sparse else t) for t in tensors]


def magnitudes(tensors: Sequence[Tensor], plus: float) -> list[Tensor]:
    """|entry| + plus, in float32 at least."""
    return [at_least_float32(plain(t.detach())).abs() + plus for t in tensors]


def square_roots(tensors: Sequence[Tensor], plus: float) -> list[Tensor]:
    """sqrt(entry) + plus, in float32 at least."""
    return [at_least_float32(t).sqrt() + plus for t in tensors]


def quotients(lefts: Sequence[Tensor], rights: Sequence[Tensor]) -> list[Tensor]:
    """left / right, in float32 at least."""
    return [at_least_float32(a) / at_least_float32(b) for a, b in zip(lefts, rights, strict=True)]


def norms(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The L2 norm of each, in its real dtype, float32 at least."""
    return [sum_of_squares([t]).sqrt().to(at_least_float32(entries(t)).dtype) for t in map(plain, tensors)]


def are_finite(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Whether no entry of each is inf or nan, as tensors of shape ()."""
    return [torch.isfinite(entries(t)).all() for t in tensors]


def differences(lefts: Sequence[Tensor], rights: Sequence[Tensor]) -> list[Tensor]:
    """left - right of dense tensors, in float32 at least."""
    return [at_least_float32(a) - at_least_float32(b) for a, b in zip(lefts, rights, strict=True)]


def combine(lefts: Sequence[Tensor], rights: Sequence[Tensor], a: Scalar, b: Scalar) -> list[Tensor]:
    """a left + b right, in the dtype of the left, rounded once."""
    return [_weighted(left, right, a, b) for left, right in zip(lefts, rights, strict=True)]


def _weighted(left: Tensor, right: Tensor, a: Scalar, b: Scalar) -> Tensor:
    if left.is_sparse and right.is_sparse:
        mixed: Tensor = left * a + right * b
        return mixed.coalesce()
    one, other = at_least_float32(dense(left)), at_least_float32(dense(right))
    a, b = (s.to(one.device, one.real.dtype) if isinstance(s, Tensor) else s for s in (a, b))
    total: Tensor = (one * a).add_(other * b) if isinstance(b, Tensor) else (one * a).add_(other, alpha=b)
    return total.to(left.dtype)


def divide(t: Tensor, norm: Scalar) -> Tensor:
    """t / norm; 0 if a norm on a device is zero or not finite (0 * inf would be nan).

    For norms that float32 cannot hold there are two divisions, the first by a power of two, which is exact.

    >>> divide(torch.tensor([3e-45, 0.0]), 3e-45).tolist()
    [0.93..., 0.0]
    """
    if t.is_sparse:
        t = t.coalesce()
        return _sparse_like(t, divide(t.values(), norm))
    t = at_least_float32(t)
    if not isinstance(norm, Tensor):
        own = float(norm)
        factor = 2.0**96 if own < TINY else 2.0**-96 if own > HUGE else 1.0
        return t / own if factor == 1.0 else (t * factor) / (own * factor)
    n = norm.to(t.device)
    up = torch.where(n < TINY, 2.0**96, torch.where(n > HUGE, 2.0**-96, 1.0)).to(n)
    ok = torch.isfinite(n) & (n > 0)
    quotient: Tensor = torch.where(ok, (t * up.to(t.real.dtype)) / (n * up), torch.zeros((), dtype=t.dtype, device=t.device))
    return quotient


TINY, HUGE = 1e-30, 1e30
"""Norms outside these bounds overflow, or lose precision, in float32."""


def _values(t: Tensor) -> Tensor:
    return t.coalesce().values() if t.is_sparse else t


def _sparse_like(t: Tensor, values: Tensor) -> Tensor:
    """A coalesced sparse tensor with other values."""
    shape, device = t.shape, values.device  # explicit, since the user may have set a default device
    return torch.sparse_coo_tensor(t.indices(), values, shape, device=device, is_coalesced=True, check_invariants=False)
