"""Both passes of every micro-batch, in loops where a framework owns backward and step: what Trainer and Accelerate share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from sharpmin.optim import SAM
from sharpmin.optim.ranks import reduces
from sharpmin.optim.rng import RandomState
from sharpmin.optim.shards import any_sharded

Run = Callable[[], Any]
"""Forward and backward of one micro-batch; returns its loss."""

Hold = Callable[[bool], AbstractContextManager[Any]]
"""Called with whether a micro-batch is the last of its step: the context in which its gradients are reduced, or not yet."""

_FOREIGN = {
    "DEEPSPEED": "its engine owns backward and step, and offers no gradient between them",
    "MEGATRON_LM": "it owns forward, backward and step at once",
    "XLA": "gradients are reduced in step(), after both passes",
}


class Window:
    """The micro-batches since the last step, each with the random state that its first pass started from.

    Attributes:
        second: whether a second pass is running.
    """

    def __init__(self) -> None:
        self.second = False
        self._kept: list[tuple[RandomState, Run]] = []

    def take(self, sam: SAM, run: Run, *, model: Any, scaler: Any, last: bool, hold: Hold) -> Any:
        """One micro-batch, and with the `last` one of a step the second pass over all of them.

        Args:
            sam: the optimizer.
            run: is called again for the second pass, so it must not use its batch up.
            model: as the framework prepared it, for `no_sync()`.
            scaler: the loss scaler, or None.
            last: whether `sam` steps after this micro-batch.
            hold: see `Hold`.

        Returns:
            The loss at w; of an ascent that needs no first gradient, the loss at w + e, the only one.
        """
        if not sam.ascent.needs_clean:
            return _only_pass(sam, run, scaler)
        if sam.scope == "microbatch":
            return self._alone(sam, run, model, scaler)
        start = RandomState(_parameters(sam))
        with sam.clean():
            loss = run()
        self._kept.append((start, run))
        if last:
            self._again(sam, scaler, hold)
        return loss

    def _again(self, sam: SAM, scaler: Any, hold: Hold) -> None:
        """The second pass over the whole window, in its order, with its random numbers."""
        window, self._kept = self._kept, []
        if not sam.needs_second_pass:
            return
        with self._marked(), sam.perturbed(scaler):
            for k, (start, run) in enumerate(window):
                start.put_back()
                with hold(k == len(window) - 1):
                    run()

    def _alone(self, sam: SAM, run: Run, model: Any, scaler: Any) -> Any:
        """Scope "microbatch": both passes at once; the surrounding loop holds the reduction of the second."""
        if reduces(model):  # the one in DistributedDataParallel: SAM must know where gradients are reduced
            sam.model = model
        with sam.clean():
            loss = run()
        if sam.needs_second_pass:
            with self._marked(), sam.perturbed(scaler):
                run()
        return loss

    @contextmanager
    def _marked(self) -> Iterator[None]:
        self.second = True
        try:
            yield
        finally:
            self.second = False


def _only_pass(sam: SAM, run: Run, scaler: Any) -> Any:
    """A single-pass ascent: e is the same for every micro-batch of a step, so each has a block of its own."""
    before = [(p, p.grad) for p in _parameters(sam)]
    with sam.perturbed(scaler):
        for p, grad in before:  # the block starts without gradients; this one goes on accumulating
            p.grad = grad
        return run()


def _parameters(sam: SAM) -> Iterator[Any]:
    return (p for group in sam.param_groups for p in group["params"])


def find_sam(optimizer: Any) -> SAM | None:
    """The SAM in what a framework has wrapped around it, if there is one."""
    while optimizer is not None and not isinstance(optimizer, SAM):
        optimizer = getattr(optimizer, "optimizer", None)
    return optimizer


def demand_backend(accelerator: Any, user: str) -> None:
    """Refuse the backends under which no second pass can be right.

    Raises:
        ValueError: under DeepSpeed, Megatron-LM, XLA, FSDP 1 or context parallelism.
    """
    kind = str(accelerator.distributed_type.value)
    if kind in _FOREIGN:
        raise ValueError(f"{user}: no second pass is possible under {kind}: {_FOREIGN[kind]}; use DDP or FSDP2")
    if kind == "FSDP" and not accelerator.is_fsdp2:
        raise ValueError(
            f"{user}: under FSDP version 1 the parameters are pieces that do not say so, and every rank would climb by a norm "
            "of its own; set fsdp_version=2"
        )
    if getattr(getattr(accelerator, "parallelism_config", None), "cp_enabled", False):
        raise ValueError(
            f"{user}: context parallelism cuts the batch up in place, so there is none left for the second pass; leave "
            "cp_size out"
        )


def demand_scope(sam: SAM, user: str) -> None:
    """Refuse scope "microbatch" where the gradients of one micro-batch cannot be had.

    Raises:
        ValueError: with sharded parameters.
    """
    if sam.scope == "microbatch" and any_sharded(_parameters(sam)):
        raise ValueError(
            f'{user}: scope="microbatch" with sharded parameters (FSDP2): under accumulation the gradient of one micro-batch '
            'stays inside FSDP; use scope="global"'
        )
