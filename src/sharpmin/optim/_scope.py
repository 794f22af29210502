"""Which gradient SAM climbs along where there are micro-batches and ranks: all knowledge of DistributedDataParallel.

Scope "global" climbs along the all-reduced gradient, the same on every rank. Scopes "rank" and "microbatch" climb along a
gradient of a rank's own: the first pass must run under `no_sync()`, forward and backward both, which `clean()` sees to; only
the second pass is reduced, with what micro-batches have accumulated. DDP notes at each forward whether it was synced, so
wrong use is seen without any communication.

No rank leaves such a second pass out, and none skips a step by itself: one whose own gradient is zero takes part with e = 0,
one whose own gradient is not finite puts nan where the second pass accumulates, and the reduction tells all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from sharpmin.core.errors import PhaseError

from ._gradients import Pairs
from ._numeric.shards import any_sharded

ScopeName = Literal["global", "rank", "microbatch"]

_NO_CLEAN = """scope="microbatch" needs the first pass of every micro-batch in a block of its own, to tell its gradient from
what has accumulated:
    with opt.clean():
        loss_fn(model(x), y).backward()
    with opt.perturbed():
        loss_fn(model(x), y).backward()
and, after the last micro-batch, opt.step()"""


def rank_and_world() -> tuple[int, int]:
    """The rank of this process, and how many there are.

    >>> rank_and_world()  # without torch.distributed
    (0, 1)
    """
    dist = torch.distributed
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


def reduces(model: nn.Module | None) -> bool:
    """Whether gradients are reduced where they accumulate, so that the second pass must add to what is there."""
    return hasattr(model, "require_forward_param_sync")


class Scope:
    """Scope "global", one gradient for the whole batch of all ranks; the others change what they need to.

    Attributes:
        name: what the user calls it.
        per_pass: whether first gradients stay apart from what is reduced, so that `clean()` must be around them.
        scaler_once: whether the loss scaler unscales the one first pass of a step.
        model: the model, which may be in DistributedDataParallel.
        in_place: whether gradients are reduced where they accumulate, so that the second pass must add to what is there.
    """

    name: ClassVar[ScopeName] = "global"
    per_pass: ClassVar[bool] = False
    scaler_once: ClassVar[bool] = True

    def __init__(self, model: nn.Module | None):
        self.model = model
        self.in_place = reduces(model)

    @property
    def all_ranks(self) -> bool:
        """Whether other ranks may climb where this one does not, so that it makes the second pass whatever its gradient."""
        return False

    @property
    def _synced(self) -> bool | None:
        """Whether the last forward with gradients was synced; None if nobody syncs."""
        synced: bool | None = getattr(self.model, "require_forward_param_sync", None)
        return synced

    def no_sync(self) -> AbstractContextManager[Any]:
        """What keeps the gradients of a first pass on their rank."""
        return nullcontext()

    def require(self, parameters: Iterable[Tensor]) -> None:
        """Refuse, at construction, what the scope cannot work with."""

    def require_comparable(self, *, keeps: bool) -> None:
        """Refuse to keep a first gradient that has no second one to set beside it."""

    def require_first(self, accumulated: Pairs | None) -> None:
        """After the first pass: was its forward synced exactly where it must be?

        Raises:
            PhaseError: if not.
        """
        if self._synced is False:
            raise PhaseError(
                "the last first pass ran under no_sync(), so every rank would climb along a gradient of its own; let the last "
                'micro-batch sync, or use scope="rank"'
            )

    def require_second(self) -> None:
        """After the second pass: its gradients must have been reduced.

        Raises:
            PhaseError: if not.
        """
        if self._synced is False:
            raise PhaseError(
                "the second pass ran under no_sync(), so every rank would step with a gradient of its own; let its last "
                "micro-batch sync"
            )

    def require_reduced(self, *, second: bool) -> None:
        """At the end of a step that climbs: its last micro-batch must have had a second pass, and that one must have synced.

        Raises:
            PhaseError: if not.
        """

    def refuse_unknown_ddp(self, parameters: Iterable[Tensor]) -> AbstractContextManager[None]:
        """Around a first pass: refuse a DDP model that SAM was not given, where it must know it."""
        return nullcontext()

    def agree_on_overflow(self, scaler: Any, optimizer: Any) -> list[Tensor]:
        """Every rank learns of an overflow on any: the scaler's flags, where ranks may see different ones."""
        return []


class _PerPass(Scope):
    """First gradients of a rank's own."""

    per_pass = True

    def no_sync(self) -> AbstractContextManager[Any]:
        no_sync: Any = getattr(self.model, "no_sync", None)
        return no_sync() if callable(no_sync) else nullcontext()

    def require_first(self, accumulated: Pairs | None) -> None:
        if self._synced:
            raise PhaseError(
                f'scope="{self.name}" needs the first pass inside opt.clean(), forward and backward both: its gradients were '
                "reduced over the ranks; no_sync() around the backward alone has no effect"
            )

    def require_reduced(self, *, second: bool) -> None:
        if not self.in_place:
            return
        if not second:
            raise PhaseError(
                f'step() in scope="{self.name}" under DDP needs the second pass of the last micro-batch, although its gradient '
                "is zero here: that pass reduces what has accumulated"
            )
        if not self._synced:
            raise PhaseError(
                "the second pass of the last micro-batch ran under no_sync(), so every rank would step with a gradient of its "
                "own; let it sync"
            )


class PerRank(_PerPass):
    """Scope "rank": each rank climbs along its own gradient."""

    name = "rank"

    @property
    def all_ranks(self) -> bool:
        return True

    def require(self, parameters: Iterable[Tensor]) -> None:
        if any_sharded(parameters):
            raise ValueError(
                'SAM: scope="rank" with DTensor parameters (FSDP2): a shard cannot hold one rank\'s perturbation of the whole; '
                'use scope="global", or scope="microbatch", which perturbs by each global micro-batch'
            )
        if not callable(getattr(self.model, "no_sync", None)):
            given = "no model" if self.model is None else type(self.model).__name__
            raise ValueError(
                f'SAM: scope="rank" needs the model in DistributedDataParallel, whose no_sync() keeps gradients apart, and got '
                f'{given}; give model=DistributedDataParallel(net), or use scope="global"'
            )
        if getattr(self.model, "static_graph", False):
            raise ValueError(
                'SAM: scope="rank" and static_graph=True: DDP cannot skip the first reduction then; leave static_graph out'
            )

    def require_comparable(self, *, keeps: bool) -> None:
        if keeps and rank_and_world()[1] > 1:
            raise ValueError(
                'SAM: scope="rank" has a first gradient of its own on each rank and one second gradient for all: telemetry, '
                "watch(), Mix and ClippedDifference would tell and do another thing on each; leave them out, or use "
                'scope="global"'
            )

    def agree_on_overflow(self, scaler: Any, optimizer: Any) -> list[Tensor]:
        flags = list(scaler._found_inf_per_device(optimizer).values())
        for flag in flags:
            torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX, group=getattr(self.model, "process_group", None))
        return flags


class PerMicrobatch(_PerPass):
    """Scope "microbatch": each micro-batch of each rank climbs along its own gradient."""

    name = "microbatch"
    scaler_once = False

    @property
    def all_ranks(self) -> bool:
        return self.in_place

    def require_comparable(self, *, keeps: bool) -> None:
        if keeps and self.in_place:
            raise ValueError(
                'SAM: scope="microbatch" under DDP cannot keep the first gradient, which telemetry, watch(), Mix '
                'and ClippedDifference need: DDP reduces what accumulates in place; leave them out, or use scope="global"'
            )

    def require_first(self, accumulated: Pairs | None) -> None:
        if accumulated is None:
            raise PhaseError(_NO_CLEAN)
        super().require_first(accumulated)

    def require_second(self) -> None:
        """Micro-batches before the last do not sync."""

    def refuse_unknown_ddp(self, parameters: Iterable[Tensor]) -> AbstractContextManager[None]:
        """It would reduce the first gradients, and of the second ones, which must accumulate before that, the last alone."""
        return nullcontext() if self.in_place or rank_and_world()[1] == 1 else _refuse_ddp(set(parameters))


SCOPES: dict[str, type[Scope]] = {kind.name: kind for kind in (Scope, PerRank, PerMicrobatch)}


@contextmanager
def _refuse_ddp(own: set[Tensor]) -> Iterator[None]:
    """Replicas would part without a word.

    Raises:
        ValueError: from the forward of such a model.
    """

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


def require_shard_gradients(groups: Iterable[Any], pairs: Pairs, which: str) -> None:
    """After a pass of a step that climbs: under FSDP2 one that did not sync leaves no gradient, and nothing would move.

    Raises:
        PhaseError: if there is none, and parameters are sharded.
    """
    if not pairs and any_sharded([p for group in groups for p in group["params"]]):
        raise PhaseError(
            f"the {which} pass left no gradient in any of the sharded parameters: under FSDP2 its last micro-batch must sync; "
            "call model.set_requires_gradient_sync(True) before it"
        )
