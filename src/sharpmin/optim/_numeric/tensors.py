"""Arithmetic on lists of tensors: one interface, and by list the fast way of `foreach.py` or the plain loops of `loops.py`.

On a CPU a sum is a Python float; on an accelerator it stays a 0-dim float64 tensor, so that nothing waits for the device
between the two passes.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from sharpmin.core.rho import Scalar

from . import foreach, loops
from .kinds import are_plain, on_host, plain
from .lines import Lines
from .loops import Factor
from .rounding import StochasticRounding
from .shards import any_sharded, locals_of, over_shards

Lists = list[list[Tensor]]


def _by_kind(*lists: Sequence[Tensor]) -> Iterator[tuple[ModuleType, Lists, Sequence[int] | None]]:
    """Lists in step, those of a kind together, with who serves them and which rows they are; None for all."""
    if foreach.serves(*lists):
        yield foreach, [list(tensors) for tensors in lists], None
        return
    kinds: dict[Any, list[int]] = {}
    for i, row in enumerate(zip(*lists, strict=True)):
        kinds.setdefault(tuple((t.dtype, t.layout, t.device, are_plain([t])) for t in row), []).append(i)
    for rows in kinds.values():
        own = [[tensors[i] for i in rows] for tensors in lists]
        yield (foreach if foreach.serves(*own) else loops), own, None if len(kinds) == 1 else rows


def _sum(name: str, *lists: Sequence[Tensor]) -> Tensor:
    """What the function of that name gives for each kind, added up on the device of the first."""
    values = [getattr(module, name)(*own) for module, own, _ in _by_kind(*lists)]
    total: Tensor = values[0]
    for value in values[1:]:
        total = total + value.to(total.device)
    return total


def _each(name: str, lists: Sequence[Sequence[Tensor]], *arguments: Any) -> list[Tensor]:
    """What the function of that name makes of each row, in their order."""
    out: list[Any] = [None] * len(lists[0])
    for module, own, rows in _by_kind(*lists):
        made = getattr(module, name)(*own, *arguments)
        if rows is None:
            return list(made)
        for i, t in zip(rows, made, strict=True):
            out[i] = t
    return out


def sum_of_squares(tensors: Sequence[Tensor]) -> Scalar:
    """The sum of |entry|^2 over all tensors: shape (), a float if all are on the CPU, else a 0-dim float64 tensor.

    On a CPU float32 entries of 1e-25 or 1e25 are squared in float64 before the result may be called zero or infinite.

    >>> sum_of_squares([torch.tensor([3.0]), torch.tensor([[4.0]])])
    25.0
    """
    if not tensors:
        return 0.0
    if any_sharded(tensors):
        return over_shards(sum_of_squares, [tensors])
    total = _sum("sum_of_squares", tensors)
    if not on_host(tensors):
        return total
    value = float(total)
    if value == 0.0 or not math.isfinite(value):
        value = float(loops.sum_of_squares(tensors, double=True))
    return value


def sum_of_magnitudes(tensors: Sequence[Tensor]) -> Scalar:
    """The sum of |entry|, shape () as in `sum_of_squares`.

    >>> sum_of_magnitudes([torch.tensor([3.0]), torch.tensor([[-4.0]])])
    7.0
    """
    if not tensors:
        return 0.0
    if any_sharded(tensors):
        return over_shards(sum_of_magnitudes, [tensors])
    total = _sum("sum_of_magnitudes", tensors)
    return float(total) if on_host(tensors) else total


def largest_entry(tensors: Sequence[Tensor]) -> Scalar:
    """The largest |entry|, shape () as in `sum_of_squares`.

    >>> largest_entry([torch.tensor([3.0]), torch.tensor([[-4.0]])])
    4.0
    """
    if not tensors:
        return 0.0
    if any_sharded(tensors):
        return over_shards(largest_entry, [tensors], torch.distributed.ReduceOp.MAX, largest)
    tops = [module.largest_entry(*own) for module, own, _ in _by_kind(tensors)]
    top = largest(tops)
    return float(top) if on_host(tensors) else top


def largest(values: Sequence[Scalar]) -> Scalar:
    """The largest of some numbers, without a read from the device."""
    tensors = [v for v in values if isinstance(v, Tensor)]
    if not tensors or len(values) == 1:
        return max(values)
    like = tensors[0].double()
    return torch.stack([v.to(like) if isinstance(v, Tensor) else torch.full_like(like, v) for v in values]).max()


def inner(lefts: Sequence[Tensor], rights: Sequence[Tensor]) -> Scalar:
    """The real inner product of two lists of dense tensors of equal shapes, summed in float64.

    >>> inner([torch.tensor([1.0, 2.0])], [torch.tensor([3.0, 4.0])])
    11.0
    """
    if not lefts:
        return 0.0
    if any_sharded(lefts):
        return over_shards(inner, [lefts, rights])
    total = _sum("inner", lefts, rights)
    return float(total) if on_host(lefts) else total


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
    found = _sum("products", clean, perturbed)
    if on_host([found]) and not squares_fit(found):
        return loops.products(clean, perturbed, Tensor.double)
    return found


def squares_fit(found: Tensor) -> bool:
    """Whether no square of these products on the host was too small or too large for float32."""
    return bool(found.isfinite().all() and found[0] > 0 and found[2] > 0)


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
            return math.isfinite(first_norm) and foreach.all_finite(list(tensors))
    if math.isfinite(float(sum_of_squares(tensors) + first_norm)):
        return True
    return math.isfinite(float(first_norm)) and loops.all_finite(tensors)


def copy_all(targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """targets = sources, in place."""
    if not targets:
        return
    targets, sources = locals_of(targets), locals_of(sources)
    (foreach if are_plain(targets) else loops).copy_all(targets, sources)  # one call goes one by one where it must


def clone_all(tensors: Sequence[Tensor]) -> list[Tensor]:
    """A copy of each, in memory of its own."""
    return _each("clone_all", [tensors])


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
        vectors: one for each, laid out as it is.
        factor: a number; one that only the device knows moves nothing where it is 0 or not finite.
        rounding: of half-precision weights; to nearest without.
        lines: scratch memory that is kept.

    >>> w = torch.tensor([1.0, 2.0])
    >>> add_all([w], [torch.tensor([1.0, -1.0])], 0.5)
    >>> w
    tensor([1.5000, 1.5000])
    """
    if not weights:
        return
    for module, own, _ in _by_kind(locals_of(weights), locals_of(vectors)):
        at = factor.to(own[0][0].device) if isinstance(factor, Tensor) else factor
        module.add_all(*own, at, rounding, Lines() if lines is None else lines)


def parts(*lists: Sequence[Tensor], whole: bool = False) -> Iterator[Lists]:
    """Lists in step, a part of one kind at a time, so that what is made of a part stays within the scratch memory.

    A tensor that is larger than that comes in flat pieces, unless it must stay `whole`.

    >>> [len(part[0]) for part in parts([torch.ones(2), torch.ones(3), torch.ones(1, dtype=torch.float64)])]
    [2, 1]
    """
    for module, own, _ in _by_kind(*lists):
        yield from foreach.parts(*own, whole=whole) if module is foreach else [own]


def multiply(tensors: Sequence[Tensor], factors: Sequence[Factor]) -> list[Tensor]:
    """Each times a number, or times a dense tensor of its shape or of shape (); half precision becomes float32.

    >>> multiply([torch.tensor([1.0, 2.0])] * 2, [3.0, torch.tensor([4.0, 5.0])])
    [tensor([3., 6.]), tensor([ 4., 10.])]
    """
    numbers = sum(not isinstance(f, Tensor) for f in factors)
    if numbers:
        fast = numbers == len(factors) and foreach.serves(tensors)
        return foreach.multiply(list(tensors), list(factors)) if fast else loops.multiply(tensors, factors)
    return _each("multiply", [tensors, factors])  # type: ignore[list-item]


def scale_all(tensors: Sequence[Tensor], factor: Scalar) -> list[Tensor]:
    """Each times one number; half precision becomes float32, sparse stays sparse.

    >>> scale_all([torch.tensor([1.0, 2.0])], 3.0)
    [tensor([3., 6.])]
    """
    return _each("scale_all", [tensors], factor)


def negated(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Minus each."""
    return _each("negated", [tensors])


def signs(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The sign of each entry, a / |a| of a complex one.

    >>> signs([torch.tensor([-2.0, 0.0])])
    [tensor([-1.,  0.])]
    """
    return _each("signs", [tensors])


def magnitudes(tensors: Sequence[Tensor], plus: float) -> list[Tensor]:
    """|entry| + plus, in float32 at least.

    >>> magnitudes([torch.tensor([-2.0])], 0.5)
    [tensor([2.5000])]
    """
    return _each("magnitudes", [tensors], plus)


def norms(tensors: Sequence[Tensor]) -> list[Scalar]:
    """The L2 norm of each: a float, or on an accelerator a 0-dim tensor of the real dtype, float32 at least.

    >>> norms([torch.tensor([3.0, 4.0]), torch.tensor([-1.0])])
    [5.0, 1.0]
    """
    if on_host(tensors):
        return [sum_of_squares([plain(t)]) ** 0.5 for t in tensors]
    return list(_each("norms", [tensors]))


def finite_or(new: Sequence[Tensor], old: Sequence[Tensor]) -> list[Tensor]:
    """Each new tensor, but where an entry of it is inf or nan the old one; without a read from a device.

    >>> finite_or([torch.tensor([1.0, torch.inf]), torch.tensor([2.0])], [torch.tensor([3.0, 4.0]), torch.zeros(1)])
    [tensor([3., 4.]), tensor([2.])]
    """
    if on_host(new) and all_finite(new):
        return list(new)
    kept = _each("are_finite", [new])
    return [torch.where(ok, t, o) for ok, t, o in zip(kept, new, old, strict=True)]


def on_present(make: Callable[[list[Tensor]], list[Tensor]], tensors: Sequence[Tensor | None]) -> list[Tensor | None]:
    """What is made of the tensors that are there, None where there is none."""
    made = iter(make([t for t in tensors if t is not None]))
    return [None if t is None else next(made) for t in tensors]


def add(values: Iterable[Scalar]) -> Scalar:
    """The sum of numbers that may lie on several devices, on the first of them."""
    values = list(values)
    first = next((v for v in values if isinstance(v, Tensor)), None)
    return sum((v.to(first) if isinstance(v, Tensor) and first is not None else v for v in values), 0.0)


def present(measure: Scalar) -> Scalar:
    """1 where a measure is positive and finite, else 0; only the device may know."""
    if isinstance(measure, Tensor):
        return ((measure > 0) & torch.isfinite(measure)).to(measure.dtype)
    return float(0 < measure < math.inf)


def differences(lefts: Sequence[Tensor], rights: Sequence[Tensor]) -> list[Tensor]:
    """left - right of dense tensors, in float32 at least.

    >>> differences([torch.tensor([3.0])], [torch.tensor([1.0])])
    [tensor([2.])]
    """
    return _each("differences", [lefts, rights])


def combine(lefts: Sequence[Tensor], rights: Sequence[Tensor], a: Scalar, b: Scalar) -> list[Tensor]:
    """a left + b right, in the dtype of the left, rounded once, sparse where both are; the right itself for a = 0, b = 1.

    Where b is 0 the sum is still formed: exactly the left, unless the right holds an inf or a nan, which must not be lost.

    >>> combine([torch.tensor([4.0])], [torch.tensor([8.0])], 0.75, 0.25)
    [tensor([5.])]
    """
    if not (isinstance(a, Tensor) or isinstance(b, Tensor)) and (a, b) == (0.0, 1.0):
        return list(rights)
    return _each("combine", [lefts, rights], a, b)
