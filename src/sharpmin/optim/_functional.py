"""Functional SAM: the second pass differentiates the model at w + e, with the loss gradient dL/dz of the first pass."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._compile import _disable_dynamo
from torch.utils._pytree import tree_leaves

from sharpmin.core.errors import PhaseError

from ._numeric.kinds import at_least_float32
from .sam import SAM

_OWNER = "FunctionalLoss"


class FunctionalLoss:
    """A loss of the logits that makes SAM functional: the second pass backpropagates dL/dz of the first pass.

    ```
    v   = dL/dz at z(w)           the first pass, for every batch; kept, detached
    G_F = J(w + e)^T v            the second pass, J = dz/dw; SAM's own is G = J(w + e)^T dL/dz at z(w + e)
    ```

    Call it where the loss function was called, with the logits first; block and closure stay as they are. Both calls
    return the loss at the logits that they are given. What is added to the loss outside (a penalty on the weights, the loss of
    another head) descends as under plain SAM, and decoupled weight decay is the base's own. The batches of the second pass must
    be those of the first, in their order, and dropout masks must come again: so the first pass needs `clean()` around it, or a
    closure, or one of the integrations. Where autograd records nothing, as in evaluation, it is the loss function alone.

    Costs no further pass. Keeps v and the other arguments of the loss from the first pass to the second, for every micro-batch
    in between: as much memory as the logits, in float32 at least.

    Args:
        opt: the `sharpmin.SAM` that trains the model; its ascent needs a first gradient.
        loss_fn: called as `loss_fn(logits, *args, **kwargs)`; returns a loss of shape (). It may depend on trainable weights
            through the logits only. The logits that it sees are in float32 at least.

    Raises:
        TypeError: if `opt` is no SAM, or `loss_fn` cannot be called; in a call, if the logits are no floating-point tensor, or
            the loss is no scalar.
        ValueError: in a call, if the loss depends on weights otherwise than through the logits, or not on the logits.
        PhaseError: in a call, if the first pass ran outside `clean()`, or the second pass has another batch than the first
            one at its position; at the end of a block that missed some of them.

    Source: Singh, Mobahi, Agarwala & Dauphin, Avoiding spurious sharpness minimization broadens applicability of SAM, 2025,
    ICML, arXiv:2502.02407.

    >>> w = torch.nn.Parameter(torch.tensor(2.0, dtype=torch.float64))
    >>> opt = SAM(torch.optim.SGD([w], lr=1.0), rho=1.0)
    >>> loss_fn = FunctionalLoss(opt, lambda z: z)
    >>> def closure(loss_fn):
    ...     opt.zero_grad()
    ...     loss = loss_fn(w**2)
    ...     loss.backward()
    ...     return loss
    >>> opt.step(lambda: closure(loss_fn)).item(), w.item()  # z = w^2, v = 1, J(w + e) = 2 (w + e) = 6
    (4.0, -4.0)
    >>> squared = FunctionalLoss(opt, lambda z: z**2 / 2)
    >>> _ = w.data.fill_(2.0)
    >>> opt.step(lambda: closure(squared)).item(), w.item()  # v = z(w) = 4, so G_F = 6 * 4; SAM's own G is 6 * 9
    (8.0, -22.0)
    """

    def __init__(self, opt: SAM, loss_fn: Callable[..., Tensor]):
        if not isinstance(opt, SAM):
            raise TypeError(f"{_OWNER}: opt={type(opt).__name__} is no SAM; give the sharpmin.SAM that trains the model")
        if not callable(loss_fn):
            raise TypeError(
                f"{_OWNER}: loss_fn={type(loss_fn).__name__} cannot be called; give a function of the logits, such as "
                "torch.nn.functional.cross_entropy"
            )
        self._passes, self._loss_fn = opt._passes, loss_fn
        self._kept: deque[_Batch] = deque()
        self._attempt: object = None
        self._passes.add_check(self)

    def __repr__(self) -> str:
        return f"FunctionalLoss({getattr(self._loss_fn, '__name__', repr(self._loss_fn))})"

    @_disable_dynamo
    def __call__(self, logits: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The loss at these logits; its backward pass multiplies what it is given with v."""
        if not isinstance(logits, Tensor) or not logits.is_floating_point():
            what = f"a tensor of {logits.dtype}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
            raise TypeError(f"{_OWNER}: the first argument is {what}; give the logits as a tensor, such as outputs.logits")
        if not (torch.is_grad_enabled() and logits.requires_grad):
            return self._loss_fn(logits, *args, **kwargs)
        state, rest = self._passes.state, tree_leaves((args, kwargs))
        if state.trip is not None:
            v = self._next(logits, rest)
            with torch.no_grad():
                value = checked_loss(self._loss_fn(at_least_float32(logits.detach()), *args, **kwargs), _OWNER)
        else:
            self._begin()
            value, v = output_gradient(self._loss_fn, logits, args, kwargs, _OWNER)
            self._kept.append(_Batch(v, [(t, _writes(t)) for t in rest]))
        loss: Tensor = _LossWithGradient.apply(logits, value, v)  # type: ignore[no-untyped-call]
        return loss

    def _begin(self) -> None:
        """Before a first pass: drop what an earlier step kept and no second pass used."""
        attempt = self._passes.state.first.random  # one object from the first clean() of a step to its second pass
        if attempt is None:
            raise PhaseError(
                f"{_OWNER}: the first pass runs outside clean(), so dropout would draw other masks in the second one, and "
                "dL/dz of the first would not belong to it; write\n    with opt.clean():\n"
                "        loss_fn(model(x), y).backward()\nor hand both passes over as a closure: opt.step(closure)"
            )
        if attempt is not self._attempt:
            self._kept.clear()
            self._attempt = attempt

    def _next(self, logits: Tensor, rest: Sequence[Any]) -> Tensor:
        """v of the next batch of the second pass."""
        if not self._kept:
            raise PhaseError(
                f"{_OWNER}: the second pass has more batches than the first pass of this step, or the ascent needs "
                f"no first pass; every batch of the block needs its first pass, in the same order:{_LOOP}"
            )
        batch = self._kept.popleft()
        if (difference := batch.differs(logits, rest)) is not None:
            raise PhaseError(
                f"{_OWNER}: the second pass has another batch than the first pass at this position: {difference}; run the same "
                f"batches in the same order:{_LOOP}"
            )
        return batch.v

    def require_complete(self) -> None:
        """At the end of a second pass: refuse it unless it used every batch of the first."""
        if left := len(self._kept):
            self._kept.clear()
            raise PhaseError(
                f"{_OWNER}: {left} of the batches of the first pass were missing in the second one, or had another loss; "
                f"the step is given up. Run all of them again, with this loss:{_LOOP}"
            )


_LOOP = """
    with opt.clean():
        for x, y in batches: loss_fn(model(x), y).backward()
    with opt.perturbed():
        for x, y in batches: loss_fn(model(x), y).backward()"""


@dataclass
class _Batch:
    """What is kept of a batch of the first pass: v, and what identifies the batch.

    Attributes:
        v: dL/dz.
        rest: the other arguments of the loss, such as the targets, each with the count of the writes to it.
    """

    v: Tensor
    rest: list[tuple[Any, int]]

    def differs(self, logits: Tensor, rest: Sequence[Any]) -> str | None:
        """How another batch differs from this one, in words; None if no difference is seen."""
        if logits.shape != self.v.shape or logits.device != self.v.device:
            shapes = f"{tuple(logits.shape)} on {logits.device} instead of {tuple(self.v.shape)} on {self.v.device}"
            return f"logits of shape {shapes}"
        if len(rest) != len(self.rest):
            return f"{len(rest)} arguments beside the logits instead of {len(self.rest)}"
        for (was, version), now in zip(self.rest, rest, strict=True):
            if not _same(was, version, now):
                return "the arguments beside the logits (the targets) have other values"
        return None


def _same(was: Any, version: int, now: Any) -> bool:
    """Whether an argument is unchanged; another tensor object is compared by its values."""
    if was is now:
        return _writes(now) == version
    if isinstance(was, Tensor) and isinstance(now, Tensor):
        return _writes(was) == version and was.device == now.device and torch.equal(was, now)
    return type(was) is type(now) and not isinstance(was, Tensor) and bool(was == now)


def _writes(value: object) -> int:
    """How often a tensor was written to; 0 where torch does not count."""
    return value._version if isinstance(value, Tensor) and not value.is_inference() else 0


class _LossWithGradient(torch.autograd.Function):
    """A loss with the given value whose gradient in the logits is v."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, value: Tensor, v: Tensor) -> Tensor:
        ctx.save_for_backward(v)
        ctx.dtype = logits.dtype
        return value.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        (v,) = ctx.saved_tensors
        return (slope * v).to(ctx.dtype), None, None


def output_gradient(
    loss_fn: Callable[..., Tensor], logits: Tensor, args: Sequence[Any], kwargs: dict[str, Any], owner: str
) -> tuple[Tensor, Tensor]:
    """The loss at these logits, detached, and dL/dz, both in float32 at least.

    Raises:
        TypeError: if the loss is no scalar.
        ValueError: if it depends on weights otherwise than through the logits, or not on the logits.
    """
    z = at_least_float32(logits.detach()).detach().requires_grad_()
    with torch.enable_grad():
        loss = checked_loss(loss_fn(z, *args, **kwargs), owner)
    if not loss.requires_grad:
        raise ValueError(f"{owner}: the loss does not depend on the logits; remove no_grad() or detach() from loss_fn")
    if strangers := [leaf for leaf in _leaves(loss) if leaf is not z]:
        raise ValueError(
            f"{owner}: loss_fn depends on a trainable tensor of shape {tuple(strangers[0].shape)} beside the logits; what "
            "belongs to the model goes into its logits, and a penalty is added outside: loss = loss_fn(logits, y) + penalty"
        )
    (v,) = torch.autograd.grad(loss, z, materialize_grads=True)
    return loss.detach(), v


def checked_loss(loss: object, owner: str) -> Tensor:
    """Return `loss` if it is a scalar, else raise `TypeError`."""
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        what = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
        raise TypeError(f"{owner}: loss_fn returned {what}; it must return the mean over the batch, or another single number")
    return loss.reshape(())


def _leaves(loss: Tensor) -> list[Tensor]:
    """The trainable tensors that a loss was computed from."""
    todo = [loss.grad_fn] if loss.grad_fn is not None else []
    seen, found = set(todo), [] if loss.grad_fn is not None else [loss]
    while todo:
        node = todo.pop()
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            found.append(leaf)
        following = {following for following, _ in node.next_functions if following is not None} - seen
        seen |= following
        todo += following
    return found
