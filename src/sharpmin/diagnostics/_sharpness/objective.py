"""The mean loss over all samples, and its gradient, at the present weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sharpmin.optim._effects.guard import require_free
from sharpmin.optim._numeric.kinds import at_least_float32, dense
from sharpmin.optim._numeric.sums import all_finite

from .batches import Batch, Batches, check_repeatable
from .frozen import Frozen, frozen
from .graph import nodes
from .kernels import plain_kernels

_REENTRANT = "CheckpointFunctionBackward"

LossFn = Callable[[Any, Any], Tensor]
"""loss_fn(model(inputs), targets): the mean over a batch."""


@dataclass(frozen=True)
class Objective:
    """L(w) = sum_b n_b loss_b(w) / sum_b n_b over batches of n_b samples.

    Attributes:
        model, loss_fn: what gives a batch's mean loss.
        held: the weights, which a probe may move.
        owner: the function to name in errors.
    """

    model: nn.Module
    loss_fn: LossFn
    held: Frozen
    owner: str

    def gradient(self, batches: Iterable[Batch]) -> tuple[float, list[Tensor]]:
        """The mean loss and its gradient, a dense tensor for each weight, in float32 at least."""
        total, samples = torch.zeros((), dtype=torch.float64, device="cpu"), 0
        sums = [torch.zeros_like(at_least_float32(p.detach())) for p in self.held.weights]
        for batch, loss in self.each(batches):
            slopes = torch.autograd.grad(self.checked(loss), self.held.weights, materialize_grads=True)
            for s, g in zip(sums, slopes, strict=True):
                s.add_(dense(g), alpha=batch.size)
            total = total.to(loss.device) + loss.detach().double() * batch.size
            samples += batch.size
        return float(total) / samples, [s.div_(samples) for s in sums]

    def start(self, batches: Iterable[Batch]) -> tuple[float, list[Tensor]]:
        """Loss and gradient at the present weights; both must be finite."""
        base, slope = self.gradient(batches)
        if not math.isfinite(base) or not all_finite(slope):
            raise ValueError(f"{self.owner}: the loss at the weights is {base}, or its gradient is not finite")
        return base, slope

    @torch.no_grad()
    def value(self, batches: Iterable[Batch]) -> float:
        """The mean loss, by forward passes alone."""
        total, samples = 0.0, 0
        for batch, loss in self.each(batches):
            total += float(loss) * batch.size
            samples += batch.size
        return total / samples

    def outputs(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, Any]]:
        """The batches with the model's outputs; every pass starts from the same random state."""
        self.held.random.put_back()
        for batch in batches:
            torch.clear_autocast_cache()
            yield batch, self.model(batch.inputs)

    def each(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, Tensor]]:
        """The batches with their losses."""
        for batch, outputs in self.outputs(batches):
            loss = self.loss_fn(outputs, batch.targets)
            if not isinstance(loss, Tensor) or loss.numel() != 1:
                what = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
                raise TypeError(
                    f"{self.owner}: loss_fn returned {what}; it must return the mean over the batch: reduction='mean'"
                )
            yield batch, loss.reshape(())

    def checked(self, loss: Tensor) -> Tensor:
        """Return `loss` if it can be differentiated, else raise."""
        if not loss.requires_grad:
            raise ValueError(
                f"{self.owner}: the loss does not depend on any trainable weight as far as autograd sees; "
                "remove no_grad() or detach() from the model and from loss_fn"
            )
        if _REENTRANT in nodes([loss]):
            raise ValueError(
                f"{self.owner}: reentrant checkpointing hides weights from torch.autograd.grad; "
                "give checkpoint(..., use_reentrant=False)"
            )
        return loss


@contextmanager
def looking(model: nn.Module, loss_fn: LossFn, data: Iterable[Any], owner: str) -> Iterator[tuple[Objective, Batches]]:
    """Check the arguments, freeze the model, and hand out the objective with the data.

    Raises:
        PhaseError: if a SAM holds the weights perturbed.
        TypeError: if the model is none, TorchScript, split over processes or complex, or the data cannot be repeated.
        ValueError: if no weight is trainable, the loader shuffles, or there are no samples.
    """
    _check_model(model, owner)
    check_repeatable(data, owner)
    with torch.inference_mode(False), torch.enable_grad(), frozen(model, data) as held, plain_kernels(model):
        yield Objective(model, loss_fn, held, owner), Batches(data, held.weights[0].device, owner)


def _check_model(model: object, owner: str) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"{owner}: model={type(model).__name__}; give the torch.nn.Module whose weights are probed")
    if isinstance(model, nn.parallel.DistributedDataParallel):
        raise TypeError(f"{owner}: model=DistributedDataParallel waits for the other ranks; give model.module")
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise TypeError(f"{owner}: a TorchScript module cannot be restored by name; give the model that it was made from")
    parameters = list(model.parameters())
    if any(nn.parameter.is_lazy(p) for p in (*parameters, *model.buffers())):
        raise ValueError(f"{owner}: the model has tensors without a shape yet; run it once on a batch before: model(inputs)")
    weights = [p for p in parameters if p.requires_grad]
    require_free(weights, f"{owner}()")
    if not weights:
        raise ValueError(f"{owner}: no weight requires a gradient; call requires_grad_() on those to probe")
    if any(hasattr(p, "placements") for p in weights):
        raise TypeError(f"{owner}: the weights are sharded (DTensor); gather them into a plain copy of the model and give that")
    if any(p.is_complex() for p in weights):
        raise TypeError(f"{owner}: the weights are complex; the probes are for real weights, such as torch.view_as_real(w)")


def like_gradient(direction: Sequence[Tensor], slope: Sequence[Tensor], owner: str) -> list[Tensor]:
    """A direction converted to the dtypes and devices of the gradient; other shapes raise."""
    shapes = [tuple(t.shape) if isinstance(t, Tensor) else None for t in direction]
    if shapes != [tuple(t.shape) for t in slope]:
        raise ValueError(
            f"{owner}: direction has the shapes {shapes}; it must have those of the parameters that require a gradient, "
            f"{[tuple(t.shape) for t in slope]}"
        )
    return [u.detach().to(g) for u, g in zip(direction, slope, strict=True)]


def check_seed(seed: object, owner: str) -> int:
    """Return `seed` if it is an integer >= 0, else raise."""
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"{owner}: seed={seed!r} is a {type(seed).__name__}; seed must be an integer >= 0")
    if not 0 <= seed < 2**63:
        raise ValueError(f"{owner}: seed={seed!r}; seed must be an integer >= 0 and below 2**63")
    return seed
