"""The gradient that SAM climbs along with micro-batches and ranks; all that SAM knows of DistributedDataParallel.

Scope "global" climbs along the all-reduced gradient, the same on every rank. In scopes "rank" and "microbatch" each
rank climbs along its own gradient: forward and backward of the first pass run under `no_sync()`, which `clean()` provides, and
only the second pass is reduced, together with the accumulated gradients. DDP stores at each forward whether it will sync, so
wrong use is found without communication.

All ranks must make that second pass, and skip a step together: a rank with a zero gradient takes part with e = 0; one with a
non-finite gradient adds nan before the reduction, so that every rank learns of it.
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
    """The rank of this process, and the number of ranks; (0, 1) without a process group.

    >>> rank_and_world()  # without torch.distributed
    (0, 1)
    """
    dist = torch.distributed
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


def reduces(model: nn.Module | None) -> bool:
    """Whether DDP reduces accumulated gradients in place, so that the second pass must add to them."""
    return hasattr(model, "require_forward_param_sync")


class Scope:
    """Scope "global": one gradient for the whole batch of all ranks. Subclasses are the other scopes.

    Attributes:
        name: the value of `scope=`.
        per_pass: whether first gradients are not reduced, so that the first pass must run inside `clean()`.
        scaler_once: whether the loss scaler unscales the one first pass of a step.
        model: the model, which may be in DistributedDataParallel.
        in_place: whether DDP reduces accumulated gradients in place, so that the second pass must add to them.
    """

    name: ClassVar[ScopeName] = "global"
    per_pass: ClassVar[bool] = False
    scaler_once: ClassVar[bool] = True

    def __init__(self, model: nn.Module | None):
        self.model = model
        self.in_place = reduces(model)

    @property
    def all_ranks(self) -> bool:
        """Whether other ranks may be perturbed when this one is not, so that it must always make the second pass."""
        return False

    @property
    def _synced(self) -> bool | None:
        """Whether DDP will sync the last forward; None without DDP."""
        synced: bool | None = getattr(self.model, "require_forward_param_sync", None)
        return synced

    def no_sync(self) -> AbstractContextManager[Any]:
        """The context that keeps the gradients of a first pass on their rank; empty for scope "global"."""
        return nullcontext()

    def require(self, parameters: Iterable[Tensor]) -> None:
        """Raise, at construction, for parameters or a model that the scope does not support."""

    def require_comparable(self, *, keeps: bool) -> None:
        """Raise if the first gradient is to be kept, but is not comparable with the second."""

    def require_first(self, accumulated: Pairs | None) -> None:
        """Check, after the first pass, that it was reduced or not as the scope needs it.

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
        """Check, at the end of a perturbed step, that the last micro-batch had a second pass and that it was reduced.

        Raises:
            PhaseError: if not.
        """

    def refuse_unknown_ddp(self, parameters: Iterable[Tensor]) -> AbstractContextManager[None]:
        """Context of a first pass: refuse a DDP model that was not given as `model=`, if the scope needs to know it."""
        return nullcontext()

    def agree_on_overflow(self, scaler: Any, optimizer: Any) -> list[Tensor]:
        """Reduce the scaler's overflow flags over the ranks, if ranks may see different ones."""
        return []


class _PerPass(Scope):
    """Each rank has its own first gradient."""

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
        """Refuse it: it would reduce the first gradients, and of the second ones only the last."""
        return nullcontext() if self.in_place or rank_and_world()[1] == 1 else _refuse_ddp(set(parameters))


SCOPES: dict[str, type[Scope]] = {kind.name: kind for kind in (Scope, PerRank, PerMicrobatch)}


@contextmanager
def _refuse_ddp(own: set[Tensor]) -> Iterator[None]:
    """Refuse a DDP model that was not given as `model=`: the replicas would silently diverge.

    Raises:
        ValueError: from the forward of such a model.
    """

    def refuse(module: nn.Module, _: Any) -> None:
        if reduces(module) and not own.isdisjoint(module.parameters()):
            raise ValueError(
                'SAM: scope="microbatch" and a model in DistributedDataParallel that SAM was not given: DDP reduces gradients '
                "before they have accumulated, and the replicas diverge; give the wrapped model, SAM(base, model=ddp_model)"
            )

    handle = nn.modules.module.register_module_forward_pre_hook(refuse)
    try:
        yield
    finally:
        handle.remove()


def require_shard_gradients(groups: Iterable[Any], pairs: Pairs, which: str) -> None:
    """Check that a pass left gradients in sharded parameters: under FSDP2 a pass without sync leaves none.

    Raises:
        PhaseError: if there is none, and parameters are sharded.
    """
    if not pairs and any_sharded([p for group in groups for p in group["params"]]):
        raise PhaseError(
            f"the {which} pass left no gradient in any of the sharded parameters: under FSDP2 its last micro-batch must sync; "
            "call model.set_requires_gradient_sync(True) before it"
        )
