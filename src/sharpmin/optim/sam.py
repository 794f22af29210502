"""`SAM`: sharpness-aware minimization around any torch optimizer, as a state machine CLEAN -> PERTURBED -> READY -> CLEAN.

`_wrapper.py` holds what it takes to be an optimizer around another one, `_machine.py` the way to `w + e` and back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar, overload

import torch
from torch import nn
from torch._compile import _disable_dynamo
from torch.optim.optimizer import Optimizer

from sharpmin.core.errors import PhaseError
from sharpmin.core.rho import RhoSchedule

from ._ascending import accumulated
from ._ascent import Ascent, Gradient
from ._axes import check_axes, check_shards
from ._block import PerturbedBlock
from ._checkpoint import own_rho
from ._compare import Pair
from ._cycle import Phase
from ._descent import Descent, Perturbed
from ._effects.buffers import BufferFilter
from ._effects.report import StepReport, detached, read
from ._geometry import L2, Geometry
from ._machine import Machine
from ._ranks import apart, demand_ranks, demand_reduced, demand_unkept

T = TypeVar("T")
_FRAMEWORKS = """
In a Hugging Face Trainer: class MyTrainer(sharpmin.integrations.SAMTrainerMixin, Trainer); in Accelerate: \
sharpmin.integrations.SAMBackward; in Lightning: callbacks=[sharpmin.integrations.LightningSAM()]"""

_RECIPES = f"""step() needs the gradient at the perturbed weights first. Either
    with opt.perturbed():
        loss_fn(model(x), y).backward()
    opt.step()
or, with a closure that does zero_grad, forward, backward and returns the loss,
    loss = opt.step(closure){_FRAMEWORKS}"""

_ONE_PASS = f"""step() needs the gradient at the perturbed weights. With this ascent it is the only one:
    with opt.perturbed():
        loss_fn(model(x), y).backward()
    opt.step()
or, with a closure that does zero_grad, forward, backward and returns the loss,
    loss = opt.step(closure){_FRAMEWORKS}"""


class SAM(Machine):
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
        geometry: the norm in which the ball is round: `L2()`, `LInf()`, `Elementwise()`, `Layerwise()`, `Masked(...)`.
        ascent: what to climb along: `Gradient()`, `Ema()`, or `Momentum()`, which needs one pass a step.
        descent: what the base optimizer sees: `Perturbed()`, `Mix()` or `ClippedDifference()`.
        scope: where gradients accumulate, "global" perturbs once, against the gradient of the whole batch;
            "microbatch" perturbs against each micro-batch alone, and "rank", under DistributedDataParallel, against the
            gradient of each rank alone; both need `clean()` around the first pass, and under DDP `model=`.
        telemetry: compare the two gradients of every step: `opt.last` then has `cosine`, `amplification`, `curvature` and
            `smoothness`. Keeps the first gradient through the second pass.
        rounding: of float16 and bfloat16 weights at w + e: "nearest", or "stochastic", which keeps small perturbations.
        skip_nonfinite: on an accelerator, read the gradients once in `step()` and skip the step if one is not finite. On
            a CPU that is always done.
        buffers: called with the name and the tensor of every buffer of `model`; False leaves that buffer out.

    Raises:
        TypeError: if `base` is no optimizer instance, is itself a SAM, or needs a closure (LBFGS).
        ValueError: if `rho` is negative or not finite, the base was made with `differentiable=True`, or the parts do
            not go together.

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
        ascent: Ascent | None = None,
        descent: Descent | None = None,
        scope: str = "global",
        telemetry: bool = False,
        rounding: str = "nearest",
        skip_nonfinite: bool = False,
        buffers: BufferFilter | None = None,
    ):
        self.model = model
        self.geometry = L2() if geometry is None else geometry
        self.descent = Perturbed() if descent is None else descent
        self.rounding = rounding
        self.telemetry = telemetry
        self.watchers: list[Callable[[Pair], None]] = []
        self.skip_nonfinite = skip_nonfinite
        self.buffers = buffers
        ascent = Gradient() if ascent is None else ascent
        check_axes(self.geometry, ascent, self.descent, scope, rounding)
        super().__init__(base, rho, ascent, scope)
        check_shards(self.geometry, ascent, self._parameters())
        demand_unkept(model, scope, keeps=telemetry or self.descent.needs_clean)
        if scope == "rank":
            demand_ranks(model, self._parameters())

    @property
    def last(self) -> StepReport:
        """What the last step did; reading it on an accelerator waits for the device."""
        report = read(self._cycle.record)
        self._warn_of_rounding(report.gain)
        return report

    @property
    def needs_second_pass(self) -> bool:
        """Whether any group has a positive rho at this step; if not, the block may be skipped, or run without effect."""
        if not self.ascent.needs_clean:
            return True
        if self._cycle.phase is Phase.PERTURBED:
            return self._cycle.kept is None
        return bool(self._active())

    @contextmanager
    def clean(self) -> Iterator[None]:
        """The block of the first pass: the second one will then see the same random numbers, so the same dropout masks.

        Optional in scope "global", where around several micro-batches the first entry of a step counts. In scope
        "microbatch" every micro-batch has its own: what has accumulated so far is set aside for its two passes. In scopes
        "rank" and "microbatch" a `DistributedDataParallel` model does not reduce the gradients of this pass.

        Raises:
            PhaseError: if the weights are perturbed, or the second pass of the last micro-batch is missing.
        """
        self._demand_unperturbed("clean()")
        self._remember_random(again=self.scope == "microbatch")
        if self.scope == "global" or not self._active():
            yield
            return
        before = self._gradients()
        if self.scope == "microbatch":
            self._open_microbatch()
        try:
            with apart(self.model), self._first_pass():
                yield
        except BaseException:
            self._put_gradients(before if self.scope == "rank" else self._cycle.earlier or [])
            self._cycle.earlier = None
            raise

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
        return PerturbedBlock(self, scaler)

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
                raise PhaseError(_RECIPES if self.ascent.needs_clean else _ONE_PASS)
            if self._idles():
                self.base.step()
                return None
            if not self._blank(cycle.earlier):
                demand_reduced(self.model, self.scope, second=False)
            self._put_gradients(accumulated(cycle.earlier, self._gradients()))
            cycle.begin()
        elif cycle.record["passes"] == 2:
            demand_reduced(self.model, self.scope, second=True)
        self._descend()
        return loss

    def _run(self, closure: Callable[[], Any]) -> Any:
        """All passes by closure. A framework may have made the second one inside the first call: then it is READY."""
        cycle = self._cycle
        if not self.ascent.needs_clean:
            with self.perturbed(), torch.enable_grad():
                loss = closure()
            cycle.record |= {"perturbed_loss": detached(loss)}
            return loss
        self._remember_random()
        cycle.earlier = [] if self.scope == "microbatch" else None  # the closure is one micro-batch
        own = apart(self.model) if self.scope == "rank" and self._active() else None
        try:
            with torch.enable_grad(), self._first_pass(own):
                loss = closure()
        except BaseException:
            cycle.earlier = None
            raise
        losses = {"clean_loss": detached(loss)}
        if cycle.phase is not Phase.READY:
            with self.perturbed(), torch.enable_grad():
                if cycle.kept is None:
                    cycle.record |= losses  # a watcher is called when the block ends
                    losses["perturbed_loss"] = detached(closure())
        cycle.record = {**losses, **cycle.record}  # a framework knows the loss of all micro-batches, and has put it there
        return loss

    def first_step(self, zero_grad: bool = False) -> None:
        """`perturb()`, under the name of the common two-step API; the first gradients are set aside either way.

        Args:
            zero_grad: accepted for scripts that pass it. Gradients of the two passes are never added up.
        """
        self.perturb()

    def second_step(self, zero_grad: bool = False) -> None:
        """`restore()` and `step()`, under the name of the common two-step API.

        Args:
            zero_grad: whether to clear the gradients afterwards.
        """
        self.restore()
        self.step()
        if zero_grad:
            self.zero_grad()

    def __repr__(self) -> str:
        rhos = [own_rho(group, self._rho) for group in self.param_groups]
        parts: dict[str, object] = {"rho": rhos[0] if all(r == rhos[0] for r in rhos) else rhos, "geometry": self.geometry}
        extra: dict[str, tuple[object, object]] = {"ascent": (self.ascent, Gradient()), "descent": (self.descent, Perturbed())}
        extra |= {"scope": (self.scope, "global"), "rounding": (self.rounding, "nearest")}
        parts |= {name: value for name, (value, default) in extra.items() if value != default}
        return f"SAM({', '.join(f'{name}={value!r}' for name, value in parts.items())}, base={self.base!r})"
