"""Several processes under DistributedDataParallel: which gradients a rank climbs along, and that all ranks agree to step.

Scope "global" climbs along the all-reduced gradient, the same on every rank. Scopes "rank" and "microbatch" climb along a
gradient of a rank's own: the first pass must run under `no_sync()`, forward and backward both, which `clean()` sees to; only
the second pass is reduced, with what micro-batches have accumulated. DDP notes at each forward whether it was synced, so
wrong use is seen without any communication.

No rank leaves such a second pass out, and none skips a step by itself: one whose own gradient is zero takes part with e = 0,
one whose own gradient is not finite puts nan where the second pass accumulates, and the reduction tells all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from sharpmin.core.errors import PhaseError
from sharpmin.core.rho import Scalar

from ._cycle import Pairs
from ._numeric.shards import any_sharded


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


def joins(model: nn.Module | None, scope: str) -> bool:
    """Whether other ranks may climb where this one does not, so that it takes part in the second pass whatever its gradient."""
    return scope == "rank" or (scope == "microbatch" and reduces(model))


def spoilt(first: Pairs, norm: Scalar) -> Pairs:
    """What to accumulate onto so that every rank sees a first gradient of this one that is not finite.

    All nan where that is known; where only the device knows the norm, 0 or nan in the smallest gradient.
    """
    dense = [(p, g) for p, g in first if not g.is_sparse]
    if not isinstance(norm, Tensor):
        return [(p, torch.full_like(g, math.nan)) for p, g in dense]
    return [(p, torch.zeros_like(g) + (norm * 0).to(g)) for p, g in sorted(dense, key=lambda pair: pair[1].numel())[:1]]


def demand_unkept(model: nn.Module | None, scope: str, *, keeps: bool) -> None:
    """Refuse to keep a first gradient that has no second one to set beside it: that of a micro-batch under DDP, or of one rank.

    Raises:
        ValueError: if the first gradient must be kept.
    """
    if keeps and scope == "microbatch" and reduces(model):
        raise ValueError(
            'SAM: scope="microbatch" under DDP cannot keep the first gradient, which telemetry, watch(), Mix '
            'and ClippedDifference need: DDP reduces what accumulates in place; leave them out, or use scope="global"'
        )
    if keeps and scope == "rank" and place()[1] > 1:
        raise ValueError(
            'SAM: scope="rank" has a first gradient of its own on each rank and one second gradient for all: telemetry, '
            'watch(), Mix and ClippedDifference would tell and do another thing on each; leave them out, or use scope="global"'
        )


def strangers(model: nn.Module | None, scope: str, parameters: Iterable[Tensor]) -> AbstractContextManager[None]:
    """Around a first pass in scope "microbatch": refuse a DDP model that SAM was not given.

    It would reduce the first gradients, and of the second ones, which must accumulate before they are reduced, the last
    alone. Replicas would part without a word.

    Raises:
        ValueError: from the forward of such a model.
    """
    if scope != "microbatch" or reduces(model) or place()[1] == 1:
        return nullcontext()
    return _strangers(set(parameters))


@contextmanager
def _strangers(own: set[Tensor]) -> Iterator[None]:
    def refuse(module: nn.Module, _: Any) -> None:
        if reduces(module) and not own.isdisjoint(module.parameters()):
            raise ValueError(
                'SAM: scope="microbatch" and a model in DistributedDataParallel that SAM was not given: DDP reduces gradients '
                "before they have accumulated, and replicas come apart; give the wrapped model, SAM(base, model=ddp_model)"
            )

    handle = nn.modules.module.register_module_forward_pre_hook(refuse)
    try:
        yield
    finally:
        handle.remove()


def place() -> tuple[int, int]:
    """The rank of this process, and how many there are.

    >>> place()  # without torch.distributed
    (0, 1)
    """
    dist = torch.distributed
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


def demand_reduced(model: nn.Module | None, scope: str, *, second: bool) -> None:
    """At the end of a step that climbs: its last micro-batch must have had a second pass, and that one must have synced.

    Raises:
        PhaseError: if not.
    """
    if scope == "global" or not reduces(model):
        return
    if not second:
        raise PhaseError(
            f'step() in scope="{scope}" under DDP needs the second pass of the last micro-batch, although its gradient is zero '
            "here: that pass reduces what has accumulated"
        )
    if not getattr(model, "require_forward_param_sync", True):
        raise PhaseError(
            "the second pass of the last micro-batch ran under no_sync(), so every rank would step with a gradient of its own; "
            "let it sync"
        )


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


def demand_gradients(parameters: Callable[[], Iterable[Tensor]], which: str) -> None:
    """After a pass of a step that climbs: under FSDP2 one that did not sync leaves no gradient, and nothing would move.

    Raises:
        PhaseError: if there is none, and parameters are sharded.
    """
    if all(p.grad is None for p in parameters()) and any_sharded(parameters()):  # as a rule the first one has a gradient
        raise PhaseError(
            f"the {which} pass left no gradient in any of the sharded parameters: under FSDP2 its last micro-batch must sync; "
            "call model.set_requires_gradient_sync(True) before it"
        )


def agree_on_overflow(scaler: Any, optimizer: Any, model: nn.Module | None) -> list[Tensor]:
    """Every rank learns of an overflow on any: one reduction of the scaler's flags, which are returned."""
    flags = list(scaler._found_inf_per_device(optimizer).values())
    for flag in flags:
        torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX, group=getattr(model, "process_group", None))
    return flags
