"""The Hugging Face Trainer: `SAMTrainerMixin` adds SAM around its optimizer and the second pass to its training step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from typing import Any

import torch

from sharpmin.core.errors import MissingExtraError, PhaseError
from sharpmin.optim import SAM

from ._batch import own
from ._window import MicroBatches, find_sam, require_backend, require_scope

_NAME = "SAMTrainerMixin"
_RANK = (
    'SAMTrainerMixin: scope="rank" needs the DistributedDataParallel model, which the Trainer makes after the optimizer; use '
    'scope="global", or scope="microbatch", which perturbs by each micro-batch of each rank'
)
_IN_BACKWARD = ("LayerWiseDummyOptimizer", "Lomo", "AdaLomo")
"""What the Trainer makes for `optim="galore_..._layerwise"`, `"apollo_..._layerwise"`, `"lomo"` and `"adalomo"`."""


class SAMTrainerMixin:
    """Trains with SAM in a Hugging Face Trainer: `class MyTrainer(SAMTrainerMixin, Trainer)`.

    The training step of the last micro-batch before an optimizer step makes the second pass over all micro-batches of that
    step, each with its random numbers, then leaves the Trainer to clip, step, schedule, log and save. The loss it reports is
    the one at w. Callbacks, evaluation and checkpoints see w. Parameters of the model that SAM does not train keep the gradient
    of the first pass. While the second pass runs, `second_pass` is True and `log` is silent, so that a `compute_loss` which
    logs or counts does so once.

    Args:
        *args: for the Trainer.
        sam: keywords of `sharpmin.SAM`, such as `{"rho": 0.05, "telemetry": True}`, for a SAM around the optimizer that the
            Trainer makes or was given; `model` is the Trainer's. Without it, SAM's defaults. To choose everything, give
            `optimizers=(sharpmin.SAM(base, rho), None)` instead; if that has no `model`, it gets the Trainer's.
        **kwargs: for the Trainer.

    Raises:
        TypeError: if the mixin comes after the Trainer among the bases, `sam` is no mapping or holds an unknown keyword, or a
            SAM was given as well.
        ValueError: if no second pass is possible: scope "rank", DeepSpeed, FSDP 1, context parallelism, an `optim` that steps
            inside the backward pass (LOMO, layerwise GaLore); in a step, if a batch was changed in place between its two
            passes.

    ```python
    class SAMTrainer(SAMTrainerMixin, Trainer): ...

    trainer = SAMTrainer(model, args, train_dataset=data, sam={"rho": 0.05})
    trainer.train()
    trainer.sam.last
    ```
    """

    args: Any
    accelerator: Any
    optimizer: Any
    model: Any
    state: Any
    _defer_fsdp_gradient_reduction: Any

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if find_spec("transformers") is None:
            raise MissingExtraError("transformers", extra="transformers")
        for kind in cls.__mro__:
            if kind is SAMTrainerMixin:
                return
            if kind.__module__.startswith("transformers.") and "training_step" in vars(kind):
                raise TypeError(
                    f"{cls.__name__}: {kind.__name__} comes before SAMTrainerMixin and would hide its training step; write "
                    f"class {cls.__name__}(SAMTrainerMixin, {cls.__bases__[0].__name__})"
                )

    def __init__(self, *args: Any, sam: Mapping[str, Any] | None = None, **kwargs: Any):
        if sam is not None and not isinstance(sam, Mapping):
            raise TypeError(f'SAMTrainerMixin: sam={sam!r}; give the keywords of sharpmin.SAM in a dict, sam={{"rho": 0.05}}')
        if sam is not None and sam.get("scope") == "rank":
            raise ValueError(_RANK)
        self._sam_keywords = sam
        self._window, self._window_of = MicroBatches(_NAME, torch.sum), None
        super().__init__(*args, **kwargs)
        given = find_sam(self.optimizer)
        if given is not None and sam is not None:
            raise TypeError("SAMTrainerMixin: optimizers= holds a SAM already, and sam= would add another; give one of them")
        if given is not None and given.scope == "rank":
            raise ValueError(_RANK)
        require_backend(self.accelerator, _NAME)

    @property
    def sam(self) -> SAM:
        """The SAM that trains, for `trainer.sam.last` or `sharpmin.watch(trainer.sam)`.

        `train()` makes it; before, `create_optimizer()` does.

        Raises:
            PhaseError: if there is none yet.
        """
        found = find_sam(self.optimizer)
        if found is None:
            raise PhaseError("SAMTrainerMixin: there is no optimizer before train(); make it with trainer.create_optimizer()")
        return found

    @property
    def second_pass(self) -> bool:
        """Whether the second pass is running, in which a `compute_loss` should not log or count."""
        return self._window.second

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """Make the Trainer's optimizer, wrapped in a SAM unless it is one."""
        parent: Any = super()
        optimizer = parent.create_optimizer(*args, **kwargs)
        if type(optimizer).__name__ in _IN_BACKWARD:
            raise ValueError(
                f"SAMTrainerMixin: optim={str(self.args.optim.value)!r} steps inside backward(): there is no gradient between "
                "the passes; use another, such as adamw_torch"
            )
        if find_sam(optimizer) is None:
            model = args[0] if args else kwargs.get("model")
            self.optimizer = SAM(optimizer, model=self.model if model is None else model, **(self._sam_keywords or {}))
        return self.optimizer

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train as the Trainer does, and warn at the end if no step was perturbed."""
        parent: Any = super()
        done = parent.train(*args, **kwargs)
        self.sam._passes.warn_idle(_NAME)
        return done

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        """Run the Trainer's training step, and on a step's last micro-batch the second pass over all of them."""
        if self._window_of is not self.state:  # a new run: drop the micro-batches of an interrupted one
            self._window, self._window_of = MicroBatches(_NAME, torch.sum), self.state
            require_scope(self.sam, _NAME)
        parent: Any = super()
        step = parent.training_step
        return self._window.take(
            self.sam,
            lambda: step(model, own(inputs), num_items_in_batch),
            inputs,
            model=model,
            scaler=self.accelerator.scaler,
            last=self.accelerator.sync_gradients,
            hold=lambda last: self._held(model, last),
        )

    def log(self, *args: Any, **kwargs: Any) -> None:
        """Log as the Trainer does, but not in the second pass."""
        parent: Any = super()
        if not self.second_pass:
            parent.log(*args, **kwargs)

    @contextmanager
    def _held(self, model: Any, last: bool) -> Iterator[None]:
        """The context that the Trainer's loop puts around a micro-batch, for the second pass."""
        accelerator = self.accelerator
        accelerator.sync_gradients = last
        if last or accelerator.gradient_state.plugin_kwargs.get("sync_each_batch", False):
            context: Any = nullcontext()
        elif getattr(self, "is_distributed_loading_by_transformers", False) and hasattr(
            self.model, "set_requires_gradient_sync"
        ):
            defer: Any = getattr(self, "_defer_fsdp_gradient_reduction")  # noqa: B009, the Trainer's own, which mypy cannot see
            context = defer()
        else:
            context = accelerator.no_sync(model)
        try:
            with context:
                yield
        finally:
            accelerator.sync_gradients = True
