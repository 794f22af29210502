"""Elementwise arithmetic and copies on lists of tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sharpmin.core.rho import Scalar

from . import foreach, loops
from .dispatch import by_kind, each
from .kinds import are_plain, on_host
from .lines import Lines
from .loops import Factor
from .rounding import StochasticRounding
from .shards import locals_of
from .sums import all_finite


def copy_all(targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """targets = sources, in place."""
    if not targets:
        return
    targets, sources = locals_of(targets), locals_of(sources)
    if targets[0].is_cpu and are_plain(targets):
        foreach.copy_all(targets, sources)  # there it copies one by one, on any devices
        return
    for module, own, _ in by_kind(targets, sources, copies=True):
        module.copy_all(*own)


def clone_all(tensors: Sequence[Tensor]) -> list[Tensor]:
    """A copy of each, in memory of its own."""
    return each("clone_all", [tensors], copies=True)


def add_all(
    weights: Sequence[Tensor],
    vectors: Sequence[Tensor],
    factor: Scalar,
    rounding: StochasticRounding | None = None,
    lines: Lines | None = None,
) -> None:
    """weights += factor * vectors, in place, rounded once to the dtype of each weight.

    Args:
        weights: tensors, or DTensors, of which the shards of this rank move.
        vectors: one for each weight, of its layout.
        factor: a number; on a device, a factor that is 0 or not finite moves nothing.
        rounding: of half-precision weights; None rounds to nearest.
        lines: scratch memory.

    >>> w = torch.tensor([1.0, 2.0])
    >>> add_all([w], [torch.tensor([1.0, -1.0])], 0.5)
    >>> w
    tensor([1.5000, 1.5000])
    """
    if not weights:
        return
    for module, own, _ in by_kind(locals_of(weights), locals_of(vectors)):
        at = factor.to(own[0][0].device) if isinstance(factor, Tensor) else factor
        module.add_all(*own, at, rounding, Lines() if lines is None else lines)


def multiply(tensors: Sequence[Tensor], factors: Sequence[Factor]) -> list[Tensor]:
    """Each times a number, or times a dense tensor of its shape or of shape (); half precision becomes float32.

    >>> multiply([torch.tensor([1.0, 2.0])] * 2, [3.0, torch.tensor([4.0, 5.0])])
    [tensor([3., 6.]), tensor([ 4., 10.])]
    """
    numbers = sum(not isinstance(f, Tensor) for f in factors)
    if numbers:
        fast = numbers == len(factors) and foreach.serves(tensors)
        return foreach.multiply(list(tensors), list(factors)) if fast else loops.multiply(tensors, factors)
    return each("multiply", [tensors, factors])  # type: ignore[list-item]


def scale_all(tensors: Sequence[Tensor], factor: Scalar) -> list[Tensor]:
    """Each times one number; half precision becomes float32, sparse stays sparse.

    >>> scale_all([torch.tensor([1.0, 2.0])], 3.0)
    [tensor([3., 6.])]
    """
    return each("scale_all", [tensors], factor)


def negated(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The negative of each."""
    return each("negated", [tensors])


def signs(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The sign of each entry, a / |a| of a complex one.

    >>> signs([torch.tensor([-2.0, 0.0])])
    [tensor([-1.,  0.])]
    """
    return each("signs", [tensors])


def magnitudes(tensors: Sequence[Tensor], plus: float) -> list[Tensor]:
    """|entry| + plus, in float32 at least.

    >>> magnitudes([torch.tensor([-2.0])], 0.5)
    [tensor([2.5000])]
    """
    return each("magnitudes", [tensors], plus)


def square_roots(tensors: Sequence[Tensor], plus: float) -> list[Tensor]:
    """sqrt(entry) + plus of dense tensors, in float32 at least.

    >>> square_roots([torch.tensor([4.0])], 0.5)
    [tensor([2.5000])]
    """
    return each("square_roots", [tensors], plus)


def quotients(lefts: Sequence[Tensor], rights: Sequence[Tensor]) -> list[Tensor]:
    """left / right of dense tensors, in float32 at least.

    >>> quotients([torch.tensor([3.0])], [torch.tensor([2.0])])
    [tensor([1.5000])]
    """
    return each("quotients", [lefts, rights])


def finite_or(new: Sequence[Tensor], old: Sequence[Tensor]) -> list[Tensor]:
    """Each new tensor if all its entries are finite, else the old one; without reading a device.

    >>> finite_or([torch.tensor([1.0, torch.inf]), torch.tensor([2.0])], [torch.tensor([3.0, 4.0]), torch.zeros(1)])
    [tensor([3., 4.]), tensor([2.])]
    """
    if on_host(new) and all_finite(new):
        return list(new)
    kept = each("are_finite", [new])
    return [torch.where(ok, t, o) for ok, t, o in zip(kept, new, old, strict=True)]


def on_present(make: Callable[[list[Tensor]], list[Tensor]], tensors: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Apply `make` to the tensors that are not None; None stays None."""
    made = iter(make([t for t in tensors if t is not None]))
    return [None if t is None else next(made) for t in tensors]


def differences(lefts: Sequence[Tensor], rights: Sequence[Tensor]) -> list[Tensor]:
    """left - right of dense tensors, in float32 at least.

    >>> differences([torch.tensor([3.0])], [torch.tensor([1.0])])
    [tensor([2.])]
    """
    return each("differences", [lefts, rights])


def combine(lefts: Sequence[Tensor], rights: Sequence[Tensor], a: Scalar, b: Scalar) -> list[Tensor]:
    """a left + b right, in the dtype of the left, rounded once, sparse where both are; the right itself for a = 0, b = 1.

    For b = 0 the sum is still formed: it is the left, but an inf or a nan in the right is not lost.

    >>> combine([torch.tensor([4.0])], [torch.tensor([8.0])], 0.75, 0.25)
    [tensor([5.])]
    """
    if not (isinstance(a, Tensor) or isinstance(b, Tensor)) and (a, b) == (0.0, 1.0):
        return list(rights)
    return each("combine", [lefts, rights], a, b)
