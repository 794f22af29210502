"""Accelerate: `SAMBackward` replaces `accelerator.backward(loss)` in a loop."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from torch import Tensor

from sharpmin.optim import SAM

from ._batch import own
from ._window import MicroBatches, find_sam, require_backend, require_scope


class SAMBackward:
    """Forward and backward of a batch in an Accelerate loop; after a step's last micro-batch, the second pass over all.

    The rest of the loop is unchanged: `accumulate`, clipping, step, scheduler, `zero_grad`, `save_state`. If the SAM has no
    `model`, it gets this one, so buffers move once a step. Parameters of the model that this SAM does not train keep the
    gradient of the first pass.

    Args:
        accelerator: the `accelerate.Accelerator`.
        optimizer: a `sharpmin.SAM`, prepared by the accelerator.
        model: the prepared model.
        loss_fn: called with the model and a batch; returns the loss. It runs twice a batch; if it logs or counts,
            let it check `second_pass`.

    Attributes:
        sam: the SAM itself, for `backward.sam.last`. Under fp16 `last.stepped` says whether a step was made: on an
            accelerator `accelerator.optimizer_step_was_skipped` misses an overflow in the first pass.

    Raises:
        TypeError: if there is no SAM in `optimizer`.
        ValueError: if no second pass is possible: DeepSpeed, FSDP 1, Megatron-LM, XLA, context parallelism; in a step, if a
            batch was changed in place between its two passes.

    ```python
    model, optimizer, loader = accelerator.prepare(model, sharpmin.SAM(base, rho=0.05, model=model), loader)
    backward = SAMBackward(accelerator, optimizer, model, lambda model, batch: loss_fn(model(batch[0]), batch[1]))
    for batch in loader:
        with accelerator.accumulate(model):
            loss = backward(batch)
            optimizer.step()
            optimizer.zero_grad()
    ```
    """

    sam: SAM

    def __init__(self, accelerator: Any, optimizer: Any, model: Any, loss_fn: Callable[[Any, Any], Tensor]):
        found = find_sam(optimizer)
        if found is None:
            raise TypeError(
                f"SAMBackward: optimizer={type(optimizer).__name__} holds no SAM; "
                "give accelerator.prepare(sharpmin.SAM(base, rho=0.05))"
            )
        require_backend(accelerator, "SAMBackward")
        require_scope(found, "SAMBackward")
        self.sam = found
        self._accelerator, self._model, self._loss_fn = accelerator, model, loss_fn
        self._window = MicroBatches("SAMBackward")

    @property
    def second_pass(self) -> bool:
        """Whether the second pass is running, in which a `loss_fn` should not log or count."""
        return self._window.second

    def __call__(self, batch: Any) -> Tensor:
        """Run forward and backward, and the second pass if the optimizer steps now, and leave its gradient.

        Returns:
            The loss at w, detached.
        """
        accelerator = self._accelerator

        def run() -> Tensor:
            loss = self._loss_fn(self._model, own(batch))
            accelerator.backward(loss)
            return loss.detach()

        loss: Tensor = self._window.take(
            self.sam,
            run,
            batch,
            model=self._model,
            scaler=accelerator.scaler,
            last=accelerator.sync_gradients,
            hold=self._held,
        )
        return loss

    def _held(self, last: bool) -> Any:
        every = self._accelerator.gradient_state.plugin_kwargs.get("sync_each_batch", False)
        return nullcontext() if last or every else self._accelerator.no_sync(self._model)
