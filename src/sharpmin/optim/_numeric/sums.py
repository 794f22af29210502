"""Scalars of lists of tensors: sums, norms, inner products, and whether all entries are finite.

On a CPU a sum is a Python float; on an accelerator it stays a 0-dim float64 tensor, so that the host
does not wait between the two passes.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from sharpmin.core.rho import Scalar

from . import foreach, loops
from .dispatch import by_kind, each
from .kinds import on_host, plain
from .shards import any_sharded, over_shards


def sum_of_squares(tensors: Sequence[Tensor]) -> Scalar:
    """The sum of |entry|^2 over all tensors: shape (), a float if all are on the CPU, else a 0-dim float64 tensor.

    On a CPU float32 entries of 1e-25 or 1e25 are squared in float64 before the result may be called zero or infinite.

    >>> sum_of_squares([torch.tensor([3.0]), torch.tensor([[4.0]])])
    25.0
    """
    value = _added_up(sum_of_squares, tensors)
    unclear = tensors and isinstance(value, float) and (value == 0.0 or not math.isfinite(value))
    if unclear and not any_sharded(tensors):  # the float64 sum is final
        return float(loops.sum_of_squares(tensors, double=True))
    return value


def sum_of_magnitudes(tensors: Sequence[Tensor]) -> Scalar:
    """The sum of |entry|, shape () as in `sum_of_squares`.

    >>> sum_of_magnitudes([torch.tensor([3.0]), torch.tensor([[-4.0]])])
    7.0
    """
    return _added_up(sum_of_magnitudes, tensors)


def largest_entry(tensors: Sequence[Tensor]) -> Scalar:
    """The largest |entry|, shape () as in `sum_of_squares`.

    >>> largest_entry([torch.tensor([3.0]), torch.tensor([[-4.0]])])
    4.0
    """
    if not tensors:
        return 0.0
    if any_sharded(tensors):
        return over_shards(largest_entry, [tensors], torch.distributed.ReduceOp.MAX, largest)
    tops = _of_each_kind("largest_entry", tensors)
    return float(largest(tops)) if on_host(tops) else largest(tops)


def inner(lefts: Sequence[Tensor], rights: Sequence[Tensor]) -> Scalar:
    """The real inner product of two lists of dense tensors of equal shapes, summed in float64.

    >>> inner([torch.tensor([1.0, 2.0])], [torch.tensor([3.0, 4.0])])
    11.0
    """
    return _added_up(inner, lefts, rights)


def _added_up(measure: Callable[..., Scalar], *lists: Sequence[Tensor]) -> Scalar:
    """The sum of the function of that name over all kinds and shards."""
    if not lists[0]:
        return 0.0
    if any_sharded(lists[0]):
        return over_shards(measure, lists)
    sums = _of_each_kind(measure.__name__, *lists)
    return float(add(sums)) if on_host(sums) else add(sums)


def _of_each_kind(name: str, *lists: Sequence[Tensor]) -> list[Tensor]:
    return [getattr(module, name)(*own) for module, own, _ in by_kind(*lists)]


def products(clean: Sequence[Tensor], perturbed: Sequence[Tensor]) -> Tensor:
    """`||g||^2, <D, g>, ||D||^2` with D = G - g of dense tensors: float64, shape (3,), where the first is.

    >>> products([torch.tensor([3.0, 4.0])], [torch.tensor([3.0, 5.0])])
    tensor([25.,  4.,  1.], dtype=torch.float64)
    """
    if not clean:
        return torch.zeros(3, dtype=torch.float64, device="cpu")
    if any_sharded(clean):
        found: Tensor = over_shards(products, [clean, perturbed])
        return found
    found = add(_of_each_kind("products", clean, perturbed))
    if on_host([found]) and not squares_fit(found):
        return loops.products(clean, perturbed, Tensor.double)
    return found


def squares_fit(found: Tensor) -> bool:
    """Whether these products are on the host and no square under- or overflowed in float32."""
    return bool(found.isfinite().all() and found[0] > 0 and found[2] > 0)


def all_finite(tensors: Sequence[Tensor], first_norm: Scalar = 0.0) -> bool:
    """Whether neither `first_norm` nor any entry is inf or nan; waits for the device once, or twice if something is not finite.

    >>> all_finite([torch.tensor([1e200, -1e200], dtype=torch.float64)]), all_finite([torch.tensor([1.0, math.nan])])
    (True, False)
    """
    if any_sharded(tensors):
        flag = over_shards(lambda own: float(not all_finite(own)), [tensors], torch.distributed.ReduceOp.MAX, largest)
        return math.isfinite(float(first_norm)) and not flag
    if isinstance(first_norm, float) and tensors and tensors[0].is_cpu:
        with contextlib.suppress(RuntimeError):  # for sparse, complex or expanded tensors, and several devices
            return math.isfinite(first_norm) and foreach.all_finite(list(tensors))
    if math.isfinite(float(sum_of_squares(tensors) + first_norm)):
        return True
    return math.isfinite(float(first_norm)) and loops.all_finite(tensors)


def norms(tensors: Sequence[Tensor]) -> list[Scalar]:
    """The L2 norm of each: a float, or on an accelerator a 0-dim tensor of the real dtype, float32 at least.

    >>> norms([torch.tensor([3.0, 4.0]), torch.tensor([-1.0])])
    [5.0, 1.0]
    """
    if on_host(tensors):
        return [sum_of_squares([plain(t)]) ** 0.5 for t in tensors]
    return list(each("norms", [tensors]))


def largest(values: Sequence[Scalar]) -> Scalar:
    """The largest of some numbers, without a read from the device."""
    tensors = [v for v in values if isinstance(v, Tensor)]
    if not tensors or len(values) == 1:
        return max(values)
    like = tensors[0].double()
    return torch.stack([v.to(like) if isinstance(v, Tensor) else torch.full_like(like, v) for v in values]).max()


def add(values: Iterable[Scalar]) -> Scalar:
    """The sum of numbers on several devices, on the first device."""
    values = list(values)
    first = next((v for v in values if isinstance(v, Tensor)), None)
    return sum((v.to(first) if isinstance(v, Tensor) and first is not None else v for v in values), 0.0)


def present(measure: Scalar) -> Scalar:
    """1 if a measure is positive and finite, else 0; a tensor if the measure is one."""
    if isinstance(measure, Tensor):
        return ((measure > 0) & torch.isfinite(measure)).to(measure.dtype)
    return float(0 < measure < math.inf)
