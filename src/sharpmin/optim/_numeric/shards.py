"""Sharded parameters (DTensor, FSDP2): arithmetic runs on the shard of this rank, sums are reduced over ranks.

A sum over a DTensor is added up over every mesh dimension along which it is not replicated; tensors of one mesh and one
set of such dimensions share one reduction, plain and replicated tensors need none.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from sharpmin.core.rho import Scalar


def is_sharded(t: Tensor) -> bool:
    """Whether `t` is a DTensor; without importing that module, which takes half a second."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(t, module.DTensor)


def any_sharded(tensors: Iterable[Tensor]) -> bool:
    """Whether one of them is a DTensor, which needs a process group."""
    module = sys.modules.get("torch.distributed.tensor")
    if module is None or not torch.distributed.is_initialized():
        return False
    return any(issubclass(kind, module.DTensor) for kind in set(map(type, tensors)))


def local(t: Tensor) -> Tensor:
    """The shard of this rank, sharing its storage; a plain tensor is returned as it is."""
    if not is_sharded(t):
        return t
    shard: Tensor = t.to_local()  # type: ignore[attr-defined]
    return shard


def locals_of(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The shards of this rank; a list without DTensors is returned as it is, without a call per tensor."""
    if any_sharded(tensors):
        return list(map(local, tensors))
    return tensors if isinstance(tensors, list) else list(tensors)


def aligned(tensors: Sequence[Any], parameters: Sequence[Tensor]) -> Sequence[Any]:
    """Gradients with the placements of their parameters: DTensor's backward may leave partial sums or other shards."""
    if not any_sharded(parameters):
        return tensors
    return [_laid_out(t, p) for t, p in zip(tensors, parameters, strict=True)]


def _laid_out(t: Any, whole: Any) -> Any:
    if t is None or not is_sharded(t) or t.placements == whole.placements:
        return t
    return t.redistribute(whole.device_mesh, whole.placements)


def like(shard: Tensor, whole: Tensor) -> Tensor:
    """`shard` as a DTensor with the placements of `whole`; unchanged if `whole` is a plain tensor."""
    if not is_sharded(whole):
        return shard
    module: Any = sys.modules["torch.distributed.tensor"]
    placed: Tensor = module.DTensor.from_local(shard, whole.device_mesh, whole.placements, run_check=False)  # type: ignore[attr-defined]
    return placed


def shard_offset(start: int, t: Tensor, *others: Tensor) -> tuple[Any, ...]:
    """The start of a tensor's shard in the line of all entries; a tensor whose shard is not contiguous is gathered.

    Returns:
        The first tensor, the start of its shard, then the others.
    """
    if not is_sharded(t):
        return t, start, *others
    utils: Any = importlib.import_module("torch.distributed.tensor._utils")
    placements: Sequence[Any] = t.placements  # type: ignore[attr-defined]
    plain = all(type(p).__name__ in ("Shard", "Replicate") for p in placements)
    if plain and sum(p.is_shard() for p in placements) <= 1 and all(p.dim == 0 for p in placements if p.is_shard()):
        mesh: Any = t.device_mesh  # type: ignore[attr-defined]
        _, offset = utils.compute_local_shape_and_global_offset(t.shape, mesh, placements)
        return t, start + offset[0] * (t.numel() // t.shape[0] if t.numel() else 0), *others
    return t.full_tensor(), start, *(other.full_tensor() for other in others)  # type: ignore[attr-defined]


def over_shards(
    measure: Callable[..., Scalar],
    lists: Sequence[Sequence[Any]],
    op: Any = None,
    together: Callable[[list[Scalar]], Scalar] = sum,
) -> Scalar:
    """`measure` of parallel lists, on the shards of each kind, reduced by `op` (default SUM), then combined by `together`.

    The first list determines the kinds; `measure` returns a number or a tensor, which is reduced in one call.

    Raises:
        RuntimeError: if a tensor holds partial sums, which must not be squared.
    """
    kinds: dict[Any, list[list[Tensor]]] = {}
    for row in zip(*lists, strict=True):
        parts = kinds.setdefault(_kind(row[0]), [[] for _ in lists])
        for part, t in zip(parts, row, strict=True):
            part.append(local(t))
    values = []
    for (mesh, dims), parts in kinds.items():
        value = measure(*parts)
        for dim in dims:
            value = _reduced(value, mesh.get_group(dim), mesh.device_type, op)
        values.append(value)
    return together(values)


def _kind(t: Tensor) -> tuple[Any, tuple[int, ...]]:
    """The device mesh, and its dimensions along which the tensor is sharded."""
    if not is_sharded(t):
        return None, ()
    placements: Sequence[Any] = t.placements  # type: ignore[attr-defined]
    if any(placement.is_partial() for placement in placements):
        raise RuntimeError(
            f"SAM: a tensor is placed as {placements}, with sums that are not reduced yet; redistribute the gradients first"
        )
    dims = tuple(i for i, placement in enumerate(placements) if not placement.is_replicate())
    return t.device_mesh, dims  # type: ignore[attr-defined]


def _reduced(value: Scalar, group: Any, device: str, op: Any) -> Scalar:
    number = value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64, device=device)
    number = number.clone()
    torch.distributed.all_reduce(number, torch.distributed.ReduceOp.SUM if op is None else op, group=group)
    return number if isinstance(value, Tensor) else float(number)
