"""Both passes of every micro-batch of a step, for frameworks that call backward and step: Trainer and Accelerate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from sharpmin.optim import SAM
from sharpmin.optim._effects.rng import RandomState
from sharpmin.optim._numeric.shards import any_sharded
from sharpmin.optim._scope import reduces

from ._batch import BatchSnapshot
from ._model import give_model, parameters, rest_kept

Run = Callable[[], Any]
"""Forward and backward of one micro-batch; returns its loss."""

Hold = Callable[[bool], AbstractContextManager[Any]]
"""A function of whether a micro-batch is the last of its step: the context in which its gradients sync, or do not."""

_FOREIGN = {
    "DEEPSPEED": "its engine owns backward and step, and offers no gradient between them",
    "MEGATRON_LM": "it owns forward, backward and step at once",
    "XLA": "gradients are reduced in step(), after both passes",
}


@dataclass
class _MicroBatch:
    """One micro-batch, to be repeated in the second pass.

    Attributes:
        run: see `Run`.
        seen: its tensors.
        random: the random state that its first pass started from.
        loss: the loss at w.
    """

    run: Run
    seen: BatchSnapshot
    random: RandomState
    loss: Any = None


class MicroBatches:
    """The micro-batches since the last step, each with the random state at the start of its first pass.

    Args:
        user: the name of the integration, for messages.
        total: computes the loss of a step from those of its micro-batches.

    Attributes:
        second: whether a second pass is running.
    """

    def __init__(self, user: str, total: Callable[[Any], Any] = torch.mean):
        self.second = False
        self._user, self._total = user, total
        self._kept: list[_MicroBatch] = []

    def take(self, sam: SAM, run: Run, batch: Any, *, model: Any, scaler: Any, last: bool, hold: Hold) -> Any:
        """Run one micro-batch, and after the `last` one of a step the second pass over all of them.

        Args:
            sam: the optimizer.
            run: forward and backward; called again for the second pass, so it must not consume its batch.
            batch: the batch that `run` uses.
            model: as the framework prepared it, for `no_sync()`.
            scaler: the loss scaler, or None.
            last: whether `sam` steps after this micro-batch.
            hold: see `Hold`.

        Returns:
            The loss at w; of an ascent that needs no first gradient, the loss at w + e, the only one.

        Raises:
            ValueError: if the batch was changed in place between its two passes.
        """
        give_model(sam, model)
        if not sam.ascent.needs_clean:
            return _only_pass(sam, run, scaler)
        micro = _MicroBatch(run, BatchSnapshot(batch), RandomState(parameters(sam)))
        if sam.scope == "microbatch":
            return self._alone(sam, micro, model, scaler)
        if self._kept and _blank(sam):
            self._kept = []  # the step was aborted
        with sam.clean():
            micro.loss = run()
        self._kept.append(micro)
        if last:
            self._again(sam, model, scaler, hold)
        return micro.loss

    def _again(self, sam: SAM, model: Any, scaler: Any, hold: Hold) -> None:
        """Run the second pass over all micro-batches in their order, with their random numbers."""
        window, self._kept = self._kept, []
        if not sam.needs_second_pass:
            return
        for micro in window:
            micro.seen.require_unchanged(self._user)
        losses = []
        with self._marked(model, sam), sam.perturbed(scaler):
            if not sam.needs_second_pass:  # decided by the first gradient
                return
            for micro in window:
                micro.random.put_back()
                with hold(micro is window[-1]):
                    losses.append(micro.run())
            self._record(sam, [micro.loss for micro in window], losses)

    def _alone(self, sam: SAM, micro: _MicroBatch, model: Any, scaler: Any) -> Any:
        """Scope "microbatch": both passes at once; the surrounding loop holds the reduction of the second."""
        if reduces(model):  # the DDP model, since SAM must know where gradients are reduced
            sam.model = model
        with sam.clean():
            loss = micro.run()
        if sam.needs_second_pass:
            micro.seen.require_unchanged(self._user)
            with self._marked(model, sam), sam.perturbed(scaler):
                micro.run()
        return loss

    def _record(self, sam: SAM, clean: Sequence[Any], perturbed: Sequence[Any]) -> None:
        """Record the losses of the step, for `last` and watchers."""
        both = {"clean_loss": clean, "perturbed_loss": perturbed}
        sam._passes.state.record |= {name: self._total(torch.stack(tuple(losses))) for name, losses in both.items()}

    @contextmanager
    def _marked(self, model: Any, sam: SAM) -> Iterator[None]:
        self.second = True
        try:
            with rest_kept(model, sam):
                yield
        finally:
            self.second = False


def _blank(sam: SAM) -> bool:
    """Whether the accumulated gradients were cleared; never true if sharded, since unreduced gradients are not visible."""
    return not any(p.grad is not None for p in parameters(sam)) and not any_sharded(parameters(sam))


def _only_pass(sam: SAM, run: Run, scaler: Any) -> Any:
    """A single-pass ascent: e is the same for every micro-batch of a step, so each has a block of its own."""
    before = [(p, p.grad) for p in parameters(sam)]
    with sam.perturbed(scaler):
        for p, grad in before:  # the block starts without gradients, but this micro-batch accumulates
            p.grad = grad
        return run()


def find_sam(optimizer: Any) -> SAM | None:
    """The SAM inside a framework's wrapper, or None."""
    while optimizer is not None and not isinstance(optimizer, SAM):
        optimizer = getattr(optimizer, "optimizer", None)
    return optimizer


def require_backend(accelerator: Any, user: str) -> None:
    """Refuse the backends that allow no second pass.

    Raises:
        ValueError: under DeepSpeed, Megatron-LM, XLA, FSDP 1 or context parallelism.
    """
    kind = str(accelerator.distributed_type.value)
    if kind in _FOREIGN:
        raise ValueError(f"{user}: no second pass is possible under {kind}: {_FOREIGN[kind]}; use DDP or FSDP2")
    if kind == "FSDP" and not accelerator.is_fsdp2:
        raise ValueError(
            f"{user}: under FSDP version 1 the parameters do not show that they are shards, so every rank would use its own "
            "norm; set fsdp_version=2"
        )
    if getattr(getattr(accelerator, "parallelism_config", None), "cp_enabled", False):
        raise ValueError(
            f"{user}: context parallelism cuts the batch up in place, so there is none left for the second pass; leave "
            "cp_size out"
        )


def require_scope(sam: SAM, user: str) -> None:
    """Refuse scope "microbatch" if the gradients of one micro-batch are not accessible.

    Raises:
        ValueError: with sharded parameters.
    """
    if sam.scope == "microbatch" and any_sharded(parameters(sam)):
        raise ValueError(
            f'{user}: scope="microbatch" with sharded parameters (FSDP2): under accumulation the gradient of one micro-batch '
            'stays inside FSDP; use scope="global"'
        )
