"""Several processes under DistributedDataParallel: which gradients a rank climbs along, and that all ranks agree to step.

Scope "global" climbs along the all-reduced gradient, the same on every rank. Scope "rank" climbs along a rank's own gradient:
its first pass must run under `no_sync()`, forward and backward both, which `clean()` sees to; only the second pass is
reduced. DDP notes at each forward whether it was synced, so wrong use is seen without any communication.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from sharpmin.core.errors import PhaseError

from .shards import any_sharded


def demand_ranks(model: nn.Module | None, parameters: Iterable[Tensor]) -> None:
    """Refuse scope "rank" where it cannot be had.

    Raises:
        ValueError: without a model that has `no_sync`, with `static_graph=True`, or with DTensor parameters.
    """
    if any_sharded(parameters):
        raise ValueError(
            'SAM: scope="rank" with DTensor parameters (FSDP2): a shard cannot hold one rank\'s perturbation of the whole; use '
            'scope="global", or scope="microbatch", which perturbs by each global micro-batch'
        )
    if not callable(getattr(model, "no_sync", None)):
        given = "no model" if model is None else type(model).__name__
        raise ValueError(
            f'SAM: scope="rank" needs the model in DistributedDataParallel, whose no_sync() keeps gradients apart, and got '
            f'{given}; give model=DistributedDataParallel(net), or use scope="global"'
        )
    if getattr(model, "static_graph", False):
        raise ValueError(
            'SAM: scope="rank" and static_graph=True: DDP cannot skip the first reduction then; leave static_graph out'
        )


def apart(model: nn.Module | None) -> AbstractContextManager[Any]:
    """The model's `no_sync()`, if it has one."""
    no_sync: Any = getattr(model, "no_sync", None)
    return no_sync() if callable(no_sync) else nullcontext()


def reduces(model: nn.Module | None) -> bool:
    """Whether gradients are reduced where they accumulate, so that the second pass must add to what is there."""
    return hasattr(model, "require_forward_param_sync")


def demand_first(model: nn.Module | None, scope: str) -> None:
    """After the first pass: was its forward synced exactly where it must be?

    Raises:
        PhaseError: if not.
    """
    synced = getattr(model, "require_forward_param_sync", None)
    if synced is None:
        return
    if synced and scope != "global":
        raise PhaseError(
            f'scope="{scope}" needs the first pass inside opt.clean(), forward and backward both: its gradients were reduced '
            "over the ranks; no_sync() around the backward alone has no effect"
        )
    if not synced and scope == "global":
        raise PhaseError(
            "the last first pass ran under no_sync(), so every rank would climb along a gradient of its own; let the last "
            'micro-batch sync, or use scope="rank"'
        )


def demand_second(model: nn.Module | None, scope: str) -> None:
    """After the second pass: its gradients must have been reduced, but for micro-batches before the last.

    Raises:
        PhaseError: if not.
    """
    if scope != "microbatch" and getattr(model, "require_forward_param_sync", None) is False:
        raise PhaseError(
            "the second pass ran under no_sync(), so every rank would step with a gradient of its own; let its last "
            "micro-batch sync"
        )


def agree_on_overflow(scaler: Any, optimizer: Any, model: nn.Module | None) -> list[Tensor]:
    """Every rank learns of an overflow on any: one reduction of the scaler's flags, which are returned."""
    flags = list(scaler._found_inf_per_device(optimizer).values())
    for flag in flags:
        torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX, group=getattr(model, "process_group", None))
    return flags
