"""`SAM`: sharpness-aware minimization around any torch optimizer, as a state machine CLEAN -> PERTURBED -> READY -> CLEAN.

`_wrapper.py` holds what it takes to be an optimizer around another one, `_cycle.py` the way to `w + e` and back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, TypeVar, overload

import torch
from torch import Tensor, nn
from torch._compile import _disable_dynamo
from torch.optim.optimizer import Optimizer

from sharpmin.core.errors import PhaseError
from sharpmin.core.rho import RhoSchedule

from ._block import Perturbed
from ._cycle import Phase, largest
from ._guard import claim, demand_free
from ._report import StepReport, detached, read
from ._wrapper import COUNT, Wrapper
from .buffers import BufferFilter
from .geometry import L2, Geometry
from .rng import RandomState
from .scaling import Scaling, enabled
from .tensors import all_finite

T = TypeVar("T")
_RECIPES = """step() needs the gradient at the perturbed weights first. Either
    with opt.perturbed():
        loss_fn(model(x), y).backward()
    opt.step()
or, with a closure that does zero_grad, forward, backward and returns the loss,
    loss = opt.step(closure)"""


class SAM(Wrapper):
    """Sharpness-aware minimization: step with the gradient taken at `w + e`, `e = rho v`, `||v|| = 1`, `<g, v> = ||g||_*`.

    ```
    g  = grad f(w)                the first backward pass
    e  = rho g / ||g||_2          perturbed(): all groups share one norm; e = 0 if g = 0
    G  = grad f(w + e)            the second backward pass, inside perturbed()
    w  = base step at w with G    step(): w comes back bit for bit, then the base optimizer sees G
    ```

    Three doors lead through the same step: the block (`perturbed()`, then `step()`), the closure (`step(closure)`), and
    the raw phases (`perturb()`, `restore()`, `step()`).

    Args:
        base: the optimizer instance that steps, such as `torch.optim.SGD(model.parameters(), lr=0.1)`.
        rho: the radius: a number >= 0, or a schedule from `sharpmin.rho`. `group["rho"]` overrides it per group; a group
            with radius 0 is not perturbed and does not enter the norm.
        model: with it, buffers such as BatchNorm statistics move once a step: the second pass leaves them alone.
        geometry: the norm in which the ball is round.
        skip_nonfinite: on an accelerator, read the gradients once in `step()` and skip the step if one is not finite. On
            a CPU that is always done.
        buffers: called with the name and the tensor of every buffer of `model`; False leaves that buffer out.

    Raises:
        TypeError: if `base` is no optimizer instance, is itself a SAM, or needs a closure (LBFGS).
        ValueError: if `rho` is negative or not finite, or the base was made with `differentiable=True`.

    Source: Foret, Kleiner, Mobahi & Neyshabur, Sharpness-Aware Minimization for Efficiently Improving Generalization,
    ICLR 2021, arXiv:2010.01412. A constant rho stops O(rho^2) away from the optimum: Si & Yun, NeurIPS 2023,
    arXiv:2306.09850.

    >>> w = torch.nn.Parameter(torch.tensor([3.0, 1.0], dtype=torch.float64))
    >>> opt = SAM(torch.optim.SGD([w], lr=0.1), rho=0.5)
    >>> def closure():
    ...     opt.zero_grad()
    ...     loss = 0.5 * (w[0] ** 2 + 4 * w[1] ** 2)
    ...     loss.backward()
    ...     return loss
    >>> opt.step(closure).item(), w.tolist()
    (6.5, [2.67, 0.44])
    >>> opt.last.dual_norm, opt.last.passes
    (5.0, 2)
    """

    def __init__(
        self,
        base: Optimizer,
        rho: float | RhoSchedule = 0.05,
        *,
        model: nn.Module | None = None,
        geometry: Geometry | None = None,
        skip_nonfinite: bool = False,
        buffers: BufferFilter | None = None,
    ):
        self.model = model
        self.geometry: Geometry = L2() if geometry is None else geometry
        self.skip_nonfinite = skip_nonfinite
        self.buffers = buffers
        super().__init__(base, rho)

    @property
    def last(self) -> StepReport:
        """What the last step did; reading it on an accelerator waits for the device."""
        return read(self._cycle.record)

    @property
    def needs_second_pass(self) -> bool:
        """Whether any group has a positive rho at this step; if not, the block may be skipped, or run without effect."""
        if self._cycle.phase is Phase.PERTURBED:
            return self._cycle.kept is None
        return bool(self._active())

    @contextmanager
    def clean(self) -> Iterator[None]:
        """The block of the first pass: the second one will then see the same random numbers, so the same dropout masks.

        Optional. Around several micro-batches, the first entry of a step counts.
        """
        self._demand_unperturbed("clean()")
        self._remember_random()
        yield

    def perturbed(self, scaler: Any = None) -> AbstractContextManager[None]:
        """The block of the second pass: forward and backward inside it run at `w + e`.

        On entry the first gradients are set aside; on exit the weights are `w` again, bit for bit, also after an
        exception (then the half-made gradients are dropped and the next step starts afresh). If nothing had to be
        perturbed, because rho or the gradient is 0, the block leaves no trace in gradients, buffers and random states.

        Args:
            scaler: the `torch.amp.GradScaler` that scaled the loss, if any. Go on with `scaler.step(opt)` then; unscale for
                clipping, by `scaler.unscale_(opt)`, between the block and the step.

        Raises:
            PhaseError: if the weights are already perturbed.
            TypeError: if `scaler` is no scaler.
        """
        return Perturbed(self, scaler)

    @_disable_dynamo
    @torch.no_grad()
    def perturb(self, scaler: Any = None) -> None:
        """Move the weights to `w + e` and set the first gradients aside; `scaler` as in `perturbed`.

        Raises:
            PhaseError: if the weights are already perturbed.
            ValueError: if a schedule returns a negative or non-finite radius; the weights have not moved then.
        """
        self._demand_unperturbed("perturb()")
        cycle = self._cycle
        demand_free(self._parameters(), "perturb()", but=cycle)
        cycle.begin()
        if enabled(scaler):
            cycle.scaling = Scaling(scaler, self, self.base)
            if self._active():  # else the base sees these gradients, which scaler.step(opt) will unscale
                cycle.scaling.first()
        climbers = self._climbers()
        total = self.geometry.measure([w for c in climbers for w in c.weights], [g for c in climbers for g in c.grads])
        norm = self.geometry.dual_norm(total)
        for climber in climbers:
            climber.ask(self._count(), norm)
        if climbers:
            cycle.record |= {"dual_norm": norm, "rho": largest([climber.radius for climber in climbers])}
        climbs = any(climber.may_move for climber in climbers)
        if not isinstance(norm, Tensor):
            cycle.nonfinite = not (math.isfinite(norm) and all_finite(self._gradients_at_rest(climbers)))
            climbs = climbs and norm > 0 and not cycle.nonfinite
        first = [(p, p.grad) for p in self._parameters() if p.grad is not None]
        cycle.kept = None if climbs else first
        try:
            cycle.phase = Phase.PERTURBED  # before a weight moves: whoever interrupts from here on finds the way back
            claim(cycle, self)
            cycle.set_aside(
                self._parameters(), self.model, self.buffers, partial(self._demand_unperturbed, "model.state_dict()")
            )
            if climbs:
                cycle.climb(climbers, self.geometry, total)
            for p, _ in first:
                p.grad = None
        except BaseException:
            self.abort()
            self._put_gradients(first)
            raise

    @_disable_dynamo
    def restore(self) -> None:
        """Bring the weights back to `w`, bit for bit; the gradient of the second pass stays in place.

        Raises:
            PhaseError: if the weights are not perturbed.
        """
        cycle = self._cycle
        if cycle.phase is not Phase.PERTURBED:
            raise PhaseError(
                f"restore() needs perturbed weights, but the step is in phase {cycle.phase.value!r}; call perturb() first"
            )
        cycle.come_back()
        if cycle.kept is None:
            cycle.record["passes"] = 2
            if cycle.scaling is not None:
                cycle.scaling.second()
        else:
            self._put_gradients(cycle.kept)
            cycle.kept = None
        cycle.phase = Phase.READY

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], T]) -> T: ...

    @_disable_dynamo
    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Let the base optimizer step; with a closure, run both passes first.

        Args:
            closure: does `zero_grad`, forward and backward and returns the loss. It runs twice, once where no group has
                a positive rho or every gradient is zero.

        Returns:
            The loss at `w` if a closure was given, else None.

        Raises:
            PhaseError: if the weights are perturbed, if a closure comes after a finished second pass, or if neither a
                closure nor a second pass was given although one is needed.
        """
        self._demand_unperturbed("step()")
        cycle = self._cycle
        loss = None
        if closure is not None:
            if cycle.phase is Phase.READY:
                raise PhaseError("step(closure) came after perturbed(): the second pass is done; call step() without closure")
            loss = self._run(closure)
        elif cycle.phase is Phase.CLEAN:
            if self._would_climb():
                raise PhaseError(_RECIPES)
            cycle.begin()
        self._descend()
        return loss

    def _run(self, closure: Callable[[], Any]) -> Any:
        """Both passes by closure. A framework may have made the second one inside the first call: then it is READY."""
        cycle = self._cycle
        self._remember_random()
        with torch.enable_grad():
            loss = closure()
        losses = {"clean_loss": detached(loss)}
        if cycle.phase is not Phase.READY:
            with self.perturbed(), torch.enable_grad():
                if cycle.kept is None:
                    losses["perturbed_loss"] = detached(closure())
        cycle.record |= losses
        return loss

    def _descend(self) -> None:
        cycle = self._cycle
        if cycle.nonfinite or not self._gradients_are_finite():
            cycle.record["stepped"] = False
        else:
            count = self._count() + 1
            self.base.step()
            cycle.steps = count
            for group in self.param_groups:
                group[COUNT] = count
            cycle.record["stepped"] = True
        cycle.phase, cycle.nonfinite, cycle.clean_random = Phase.CLEAN, False, None

    def _remember_random(self) -> None:
        if self._cycle.clean_random is None:
            self._cycle.clean_random = RandomState(self._parameters())

    def abort(self) -> None:
        """Leave a step that failed half way: weights back, half-made gradients dropped; without effect at `w`."""
        if self._cycle.phase is not Phase.PERTURBED:
            return
        try:
            self._cycle.come_back()
        except BaseException:  # a second interrupt
            self._cycle.come_back()
            raise
        self._cycle.begin()
        self._cycle.clean_random = None
        self._put_gradients([])

    def __repr__(self) -> str:
        rhos = [group.get("rho", self._rho) for group in self.param_groups]
        rho = repr(rhos[0]) if all(r == rhos[0] for r in rhos) else repr(rhos)
        return f"SAM(rho={rho}, geometry={self.geometry!r}, base={self.base!r})"
