"""`SAM`: sharpness-aware minimization around any torch optimizer, as a state machine CLEAN -> PERTURBED -> READY -> CLEAN.

`_wrapper.py` holds what it takes to be an optimizer around another one, `_cycle.py` the way to `w + e` and back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._compile import _disable_dynamo
from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook

from sharpmin.core.errors import PhaseError
from sharpmin.core.rho import RhoSchedule, Scalar, StepInfo, as_schedule

from ._cycle import Climber, Cycle, Phase
from ._report import StepReport, read
from ._wrapper import COUNT, Wrapper
from .geometry import L2, Geometry
from .tensors import on_host, sum_of_squares

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
        geometry: the norm in which the ball is round.
        skip_nonfinite: on an accelerator, read the gradients once in `step()` and skip the step if one is not finite. On
            a CPU that is always done.

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
        geometry: Geometry | None = None,
        skip_nonfinite: bool = False,
    ):
        self.geometry: Geometry = L2() if geometry is None else geometry
        self.skip_nonfinite = skip_nonfinite
        self._cycle = Cycle()
        super().__init__(base, rho)

    # -- what the step can tell -----------------------------------------------------------------------------------

    @property
    def last(self) -> StepReport:
        """What the last step did; reading it on an accelerator waits for the device."""
        return read(self._cycle.record)

    @property
    def needs_second_pass(self) -> bool:
        """Whether any group has a positive rho at this step; if not, the block may be skipped, or run without effect."""
        if self._cycle.phase is Phase.PERTURBED:
            return self._cycle.kept is None
        return any(self._is_active(group) for group in self.param_groups)

    # -- the three doors ------------------------------------------------------------------------------------------

    @contextmanager
    def clean(self) -> Iterator[None]:
        """The block of the first pass. Optional: it guards against a first pass on perturbed weights."""
        self._demand_unperturbed("clean()")
        yield

    @contextmanager
    def perturbed(self) -> Iterator[None]:
        """The block of the second pass: forward and backward inside it run at `w + e`.

        On entry the first gradients are set aside; on exit the weights are `w` again, bit for bit, also after an
        exception (then the half-made gradients are dropped and the next step starts afresh). If nothing had to be
        perturbed, because rho or the gradient is 0, the block leaves no trace in the gradients.

        Raises:
            PhaseError: if the weights are already perturbed.
        """
        self.perturb()
        try:
            yield
        except BaseException:
            self._abort()
            raise
        self.restore()

    @_disable_dynamo
    @torch.no_grad()
    def perturb(self) -> None:
        """Move the weights to `w + e` and set the first gradients aside.

        Raises:
            PhaseError: if the weights are already perturbed.
            ValueError: if a schedule returns a negative or non-finite radius; the weights have not moved then.
        """
        self._demand_unperturbed("perturb()")
        cycle = self._cycle
        cycle.begin()
        climbers = [climber for group in self.param_groups if (climber := self._climber(group)) is not None]
        total = self.geometry.measure(
            [w for climber in climbers for w in climber.weights], [g for climber in climbers for g in climber.grads]
        )
        norm = self.geometry.dual_norm(total)
        for climber in climbers:
            climber.radius = self._radius(climber, norm)
        climbs = any(isinstance(climber.radius, Tensor) or climber.radius > 0 for climber in climbers)
        if climbers:
            cycle.record |= {"dual_norm": norm}
        if isinstance(norm, float):
            cycle.nonfinite = not math.isfinite(norm)
            climbs = climbs and norm > 0 and not cycle.nonfinite
        if climbs:
            cycle.climb(climbers, self.geometry, total)
        first = [(p, p.grad) for p in self._parameters() if p.grad is not None]
        cycle.kept = None if climbs else first
        for p, _ in first:
            p.grad = None
        cycle.phase = Phase.PERTURBED
        cycle.guard = register_optimizer_step_pre_hook(self._guard)

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
        else:
            self._put_gradients(cycle.kept)
            cycle.kept = None
        cycle.phase = Phase.READY

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
        with torch.enable_grad():
            loss = closure()
        losses = {"clean_loss": _detached(loss)}
        if cycle.phase is not Phase.READY:
            with self.perturbed(), torch.enable_grad():
                if cycle.kept is None:
                    losses["perturbed_loss"] = _detached(closure())
        cycle.record |= losses
        return loss

    def _descend(self) -> None:
        cycle = self._cycle
        if cycle.nonfinite or not self._gradients_are_finite():
            cycle.record["stepped"] = False
        else:
            count = self._count() + 1
            self.base.step()
            for group in self.param_groups:
                group[COUNT] = count
            cycle.record["stepped"] = True
        cycle.phase, cycle.nonfinite = Phase.CLEAN, False

    # -- inside ---------------------------------------------------------------------------------------------------

    def _climber(self, group: dict[str, Any]) -> Climber | None:
        """The part of a group that takes part in this step's ascent, if any."""
        if not self._is_active(group):
            return None
        with_grad = [p for p in group["params"] if p.grad is not None]
        return Climber(group, self._schedule(group), with_grad, [p.grad for p in with_grad])

    def _schedule(self, group: dict[str, Any]) -> RhoSchedule:
        return as_schedule(group.get("rho", self._rho), "SAM")

    def _is_active(self, group: dict[str, Any]) -> bool:
        return self._schedule(group).active(self._count(), group.get("lr", 0.0))

    def _radius(self, climber: Climber, norm: Scalar) -> Scalar:
        radius = climber.schedule(StepInfo(self._count(), climber.group.get("lr", 0.0), norm, climber.group))
        finite_norm = isinstance(norm, float) and math.isfinite(norm)
        if finite_norm and isinstance(radius, float) and not 0 <= radius < math.inf:
            raise ValueError(
                f"SAM: {climber.schedule!r} gave the radius {radius!r} at step {self._count()}; "
                "a radius must be finite and >= 0"
            )
        return radius

    def _parameters(self) -> Iterator[Tensor]:
        return (p for group in self.param_groups for p in group["params"])

    def _put_gradients(self, pairs: list[tuple[Tensor, Tensor]]) -> None:
        for p in self._parameters():
            p.grad = None
        for p, grad in pairs:
            p.grad = grad

    def _would_climb(self) -> bool:
        """Whether the gradients at hand would move the weights, so that a second pass is missing."""
        climbers = [climber for group in self.param_groups if (climber := self._climber(group)) is not None]
        return bool(sum_of_squares([g for climber in climbers for g in climber.grads]) != 0)

    def _gradients_are_finite(self) -> bool:
        grads = [p.grad for p in self._parameters() if p.grad is not None]
        if not self.skip_nonfinite and not on_host(grads):
            return True
        return math.isfinite(float(sum_of_squares(grads)))

    def _abort(self) -> None:
        """Leave a step that failed half way: weights back, half-made gradients dropped."""
        self._cycle.come_back()
        self._cycle.begin()
        self._put_gradients([])
        self._cycle.phase = Phase.CLEAN

    def _demand_unperturbed(self, call: str) -> None:
        if self._cycle.phase is Phase.PERTURBED:
            raise PhaseError(
                f"{call} came while the weights are perturbed (w + e); leave the perturbed() block, or call restore(), first"
            )

    def _guard(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """A hook on every optimizer's step, alive while the weights are perturbed."""
        mine = {id(p) for p in self._parameters()}
        if any(id(p) in mine for group in optimizer.param_groups for p in group["params"]):
            raise PhaseError(
                f"{type(optimizer).__name__}.step() came while SAM holds its weights perturbed (w + e); "
                "step after the perturbed() block"
            )

    def __repr__(self) -> str:
        return f"SAM(rho={self._rho!r}, geometry={self.geometry!r}, base={self.base!r})"


def _detached(loss: Any) -> Any:
    return loss.detach() if isinstance(loss, Tensor) else loss
