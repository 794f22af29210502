"""`LightningSAM`: the second pass of a SAM step inside Lightning's automatic optimization, as one callback.

Lightning runs the first pass of every micro-batch, then calls `on_before_optimizer_step`: after the gradients have been
unscaled, before they are clipped. There the callback runs the second pass over the micro-batches that made the gradient, with
the random states that they had. Everything after it is Lightning's own: clipping, the step, the schedulers, the counters.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import FSDPStrategy
from torch import Tensor

from sharpmin.optim._effects.rng import RandomState
from sharpmin.optim.sam import SAM

from ._batch import BatchSnapshot, own
from ._model import give_model, parameters, rest_kept
from ._torchmetrics import kept

_LOGS = ("log", "log_dict")


@dataclass
class _TrainingStep:
    """One call of `training_step`, to be repeated in the second pass.

    Attributes:
        args: its arguments.
        kwargs: its keyword arguments.
        seen: the tensors in both.
        random: the random state at its start.
        loss: its loss; None if it skipped the batch.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    seen: BatchSnapshot
    random: RandomState
    loss: Tensor | None = None


class LightningSAM(Callback):  # type: ignore[misc]  # Lightning is optional, so it has no types here
    """Makes a `sharpmin.SAM` work in a `lightning.pytorch.Trainer` with automatic optimization.

    ```
    class Net(LightningModule):
        def configure_optimizers(self):
            return sharpmin.SAM(torch.optim.SGD(self.parameters(), lr=0.1), rho=0.05)

    Trainer(callbacks=[sharpmin.integrations.LightningSAM()]).fit(Net(), loader)
    ```

    Both passes see all micro-batches of `accumulate_grad_batches`, with the same dropout masks. Buffers such as BatchNorm's,
    `self.log` and the torchmetrics of the module move once, in the first pass; clipping applies to the gradient that is
    stepped with, not to the ascent. Gradients are reduced over the ranks once a pass. If the SAM has no `model`, it gets the
    LightningModule; parameters of it that SAM does not train keep the gradient of the first pass.

    `training_step` itself runs twice a batch, and so do `on_before_backward` and `on_after_backward`. Other effects,
    such as appending to a list or writing to `self.logger`, happen twice unless it checks `second_pass`.
    It is called again with the same batch; what `on_train_batch_start` left in the module stays that of the last micro-batch.

    Attributes:
        second_pass: whether the second pass is running.

    Raises:
        TypeError: when training starts, if `configure_optimizers` returned no `sharpmin.SAM`, or `training_step` takes a
            `dataloader_iter`, which cannot be read twice.
        ValueError: when training starts, under manual optimization, which needs no callback, with a scope other than
            "global", or under a strategy that shards or accumulates by itself (FSDPStrategy, DeepSpeed); at the first step, if
            an ascent of one pass (`Momentum`) meets accumulation or a loss scaler; at any step, if a batch was changed in
            place between its two passes.
    """

    makes_second_pass = True  # the mark by which `SAM.step` recognizes the callback

    def __init__(self) -> None:
        self.second_pass = False
        self._sam: SAM | None = None
        self._window: list[_TrainingStep] = []
        self._detach: Callable[[], None] = _nothing

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the SAM, refuse unsupported set-ups, and wrap `training_step`."""
        sam = _the_sam(trainer, pl_module)
        give_model(sam, pl_module)
        self._sam, self._window = sam, []
        own, call = vars(trainer.strategy), trainer.strategy.training_step
        self._detach = lambda: own.pop("training_step", None)
        own["training_step"] = lambda *args, **kwargs: self._listen(call, args, kwargs)

    def on_before_zero_grad(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Forget earlier micro-batches, whose gradients are cleared, but not the one whose forward has just run."""
        del self._window[:-1]

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Run the second pass over the micro-batches whose gradients are accumulated."""
        window, self._window = self._window, []
        sam, scaler = self._sam, getattr(trainer.precision_plugin, "scaler", None)
        if sam is None or optimizer is not sam or not _comes_to_a_step(window, scaler):
            return
        if not sam.ascent.needs_clean:
            _require_one_pass(sam, trainer, scaler)
            return
        window = [micro for micro in window if micro.loss is not None]
        for micro in window:
            micro.seen.require_unchanged("LightningSAM")
        after = RandomState(parameters(sam))
        try:
            with torch.enable_grad(), sam.perturbed(scaler), self._apart(pl_module, sam):
                sam._passes.state.record["clean_loss"] = _mean([micro.loss for micro in window])
                if sam.needs_second_pass:
                    sam._passes.state.record["perturbed_loss"] = _mean(
                        [_again(trainer, sam, m, m is window[-1]) for m in window]
                    )
        finally:
            after.put_back()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Unwrap `training_step`, and warn if no step was perturbed."""
        if self._sam is not None:
            self._sam._passes.warn_idle("LightningSAM")
        self._release()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Unwrap `training_step`."""
        self._release()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Unwrap `training_step`."""
        self._release()

    def _release(self) -> None:
        self._detach()
        self._detach, self._sam, self._window = _nothing, None, []

    def _listen(self, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call `training_step`; in the first pass, store the call."""
        if self.second_pass or self._sam is None:
            return call(*args, **kwargs)
        micro = _TrainingStep(
            own(args), own(kwargs), BatchSnapshot([*args, *kwargs.values()]), RandomState(parameters(self._sam))
        )
        output = call(*args, **kwargs)
        loss = _loss(output)
        micro.loss = loss if loss is None else loss.detach()
        self._window.append(micro)
        return output

    @contextmanager
    def _apart(self, pl_module: LightningModule, sam: SAM) -> Iterator[None]:
        """Context of the second pass: no logs, and metrics are restored."""
        own = vars(pl_module)
        before = {name: own[name] for name in _LOGS if name in own}
        own.update(dict.fromkeys(_LOGS, _nothing))
        self.second_pass = True
        try:
            with kept(pl_module), rest_kept(pl_module, sam):
                yield
        finally:
            self.second_pass = False
            for name in _LOGS:
                del own[name]
            own.update(before)


def _nothing(*args: Any, **kwargs: Any) -> None:
    """Replaces `self.log` during the second pass."""


def _loss(output: Any) -> Tensor | None:
    """The loss in what `training_step` returned; None if it skipped the batch."""
    return output.get("loss") if isinstance(output, Mapping) else output


def _mean(losses: list[Any]) -> Tensor | None:
    """The mean loss of the micro-batches that have one."""
    there = [loss for loss in losses if loss is not None]
    return torch.stack(there).mean() if there else None


def _again(trainer: Trainer, sam: SAM, micro: _TrainingStep, last: bool) -> Tensor | None:
    """Forward and backward of one micro-batch at the perturbed weights; only the last one is reduced over the ranks."""
    strategy = trainer.strategy
    micro.random.put_back()
    with _unsynced(strategy) if not last else nullcontext():
        loss = _loss(strategy.training_step(*micro.args, **micro.kwargs))
        if loss is None:
            return None
        strategy.backward(loss / trainer.accumulate_grad_batches, sam)
    return loss.detach()


def _unsynced(strategy: Any) -> AbstractContextManager[Any]:
    """The strategy's `no_sync` context, or an empty one without ranks."""
    block = getattr(strategy, "block_backward_sync", nullcontext)
    context: AbstractContextManager[Any] = block()
    return context


def _comes_to_a_step(window: list[_TrainingStep], scaler: Any) -> bool:
    """Whether Lightning will step: some batch has a loss, under a scaler the last one."""
    return any(micro.loss is not None for micro in window) and (scaler is None or window[-1].loss is not None)


def _the_sam(trainer: Trainer, pl_module: LightningModule) -> SAM:
    """The SAM of this run; raises if the callback does not support the set-up."""
    if not pl_module.automatic_optimization:
        raise ValueError(
            "LightningSAM: this module optimizes manually (automatic_optimization=False), where the loop makes the second pass "
            "itself, with any number of optimizers: leave the callback out, and write `with opt.perturbed(): "
            "self.manual_backward(loss(...))` before opt.step()"
        )
    sams = [optimizer for optimizer in trainer.optimizers if isinstance(optimizer, SAM)]
    if not sams:
        given = ", ".join(type(optimizer).__name__ for optimizer in trainer.optimizers) or "no optimizer"
        raise TypeError(
            f"LightningSAM: configure_optimizers returned {given}; return sharpmin.SAM(torch.optim.SGD(self.parameters(), "
            "lr=0.1), rho=0.05), or leave the callback out"
        )
    if "dataloader_iter" in inspect.signature(pl_module.training_step).parameters:
        raise TypeError(
            "LightningSAM: training_step takes a dataloader_iter, which cannot be read a second time for the second pass; take "
            "(batch, batch_idx), or optimize manually"
        )
    _check_strategy(trainer.strategy, sams[0])
    return sams[0]


def _check_strategy(strategy: Any, sam: SAM) -> None:
    if strategy.handles_gradient_accumulation or isinstance(strategy, FSDPStrategy):
        raise ValueError(
            f"LightningSAM: {type(strategy).__name__} keeps weights and gradients where SAM cannot reach them; use "
            'strategy="ddp", or FSDP2 in a plain loop'
        )
    if sam.scope != "global":
        raise ValueError(
            f'LightningSAM: scope="{sam.scope}" needs clean() around every first pass, which Lightning makes by itself; use '
            'scope="global", or optimize manually'
        )


def _require_one_pass(sam: SAM, trainer: Trainer, scaler: Any) -> None:
    """Check that a step has one forward pass if the ascent needs no first gradient, since it perturbs inside `step`."""
    if trainer.accumulate_grad_batches > 1 or scaler is not None:
        raise ValueError(
            f"LightningSAM: {sam.ascent!r} perturbs before its only pass, so a step must have one micro-batch; use "
            "accumulate_grad_batches=1 without 16-mixed, or optimize manually"
        )
