"""`SAM`: sharpness-aware minimization around any torch optimizer, with three ways to write its step.

`_passes.py` has the order of a step, `_state.py` its mutable state, `_settings.py` the keywords.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, overload

import torch
from torch import nn
from torch._compile import _disable_dynamo
from torch.optim.optimizer import Optimizer

from sharpmin.core.rho import Rho

from ._ascent import Gradient
from ._bases import joined, refuse_common_constructor, without_counts, without_self
from ._block import PerturbedBlock
from ._delegate import Delegate
from ._descent import Perturbed
from ._effects import guard
from ._effects.buffers import BufferFilter
from ._effects.lightning import own_closure
from ._effects.report import StepReport
from ._first_pass import first_pass, step_by_closure
from ._geometry import L2
from ._passes import Passes
from ._plan import plan
from ._protocols import Ascent, Descent, Geometry
from ._scope import ScopeName
from ._settings import NAMES, Rounding, SettingAttribute, Settings, refuse_unknown
from ._state import Phase
from ._stepping import descend, require_ready, take_only_pass
from ._trip import abort, depart, restore

T = TypeVar("T")


class SAM(Delegate):
    """Sharpness-aware minimization: step with the gradient taken at `w + e`, `e = rho v`, `||v|| = 1`, `<g, v> = ||g||_*`.

    ```
    g  = grad f(w)                the first backward pass
    e  = rho g / ||g||_2          perturbed(): all groups share one norm; e = 0 if g = 0
    G  = grad f(w + e)            the second backward pass, inside perturbed()
    w  = base step at w with G    step(): w comes back bit for bit, then the base optimizer sees G
    ```

    There are three ways to write the same step: the block (`perturbed()`, then `step()`), the closure (`step(closure)`), and
    the raw phases (`perturb()`, `restore()`, `step()`).

    Args:
        base: the optimizer instance that steps, such as `torch.optim.SGD(model.parameters(), lr=0.1)`.
        rho: the radius: a number >= 0, or a schedule from `sharpmin.rho`. `group["rho"]` overrides it per group; a group
            with radius 0 is not perturbed and does not enter the norm.
        model: with it, buffers such as BatchNorm statistics move once a step: the second pass leaves them alone.
        geometry: the norm in which the ball is round: `L2()`, `LInf()`, `Elementwise()`, `Layerwise()`, `Masked(...)`.
        ascent: what to climb along: `Gradient()`, `Ema()`, or, in one pass a step, `Momentum()` and `PreviousGradient()`.
        descent: the gradient that the base steps with: `Perturbed()`, `Mix()` or `ClippedDifference()`.
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

    _passes: Passes
    model: SettingAttribute[nn.Module | None] = SettingAttribute()
    geometry: SettingAttribute[Geometry] = SettingAttribute()
    ascent: SettingAttribute[Ascent] = SettingAttribute()
    descent: SettingAttribute[Descent] = SettingAttribute()
    scope: SettingAttribute[ScopeName] = SettingAttribute()
    telemetry: SettingAttribute[bool] = SettingAttribute()
    rounding: SettingAttribute[Rounding] = SettingAttribute()
    skip_nonfinite: SettingAttribute[bool] = SettingAttribute()
    buffers: SettingAttribute[BufferFilter | None] = SettingAttribute()

    if not TYPE_CHECKING:  # a type checker reads the signature of `__init__`

        def __new__(cls, *args: Any, **keywords: Any) -> SAM:
            """Refuse the arguments of other SAM constructors with the line to paste."""
            if cls.__init__ is SAM.__init__:
                refuse_common_constructor(args, keywords, ("base", "rho", *NAMES))
            return super().__new__(cls)

    def __init__(
        self,
        base: Optimizer | Sequence[Optimizer],
        rho: Rho = 0.05,
        *,
        model: nn.Module | None = None,
        geometry: Geometry = L2(),  # noqa: B008  # frozen, as are the next two
        ascent: Ascent = Gradient(),  # noqa: B008
        descent: Descent = Perturbed(),  # noqa: B008
        scope: ScopeName = "global",
        telemetry: bool = False,
        rounding: Rounding = "nearest",
        skip_nonfinite: bool = False,
        buffers: BufferFilter | None = None,
    ):
        settings = Settings(model, geometry, ascent, descent, scope, telemetry, rounding, skip_nonfinite, buffers)
        self._passes = Passes.of(joined(base), rho, settings)
        super().__init__(self._passes.groups.base)
        guard.watch(self, self._passes.state)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "base" and "base" in self.__dict__:
            raise AttributeError("SAM: the base is fixed; make another SAM around the other base")
        if type(self) is SAM and not name.startswith("_") and not hasattr(SAM, name) and name != "base":
            refuse_unknown(name, {key for group in self.param_groups for key in group if key != "params"})
        super().__setattr__(name, value)

    @property
    def rho(self) -> Any:
        """The radius: a number or a schedule, or a list if groups differ. Setting it sets all groups."""
        rhos = self._passes.groups.radii() or [self._passes.groups.rho]
        return rhos[0] if all(rho == rhos[0] for rho in rhos) else rhos

    @rho.setter
    def rho(self, rho: Rho) -> None:
        self._passes.set_radius(rho)

    @property
    def watchers(self) -> list[Callable[[Any], None]]:
        """Functions that are called with both gradients of every step; `sharpmin.watch` adds one."""
        return self._passes.watchers

    @property
    def last(self) -> StepReport:
        """The report of the last step; on an accelerator, reading it waits for the device."""
        return self._passes.report()

    @property
    def needs_second_pass(self) -> bool:
        """Whether the step needs a pass at w + e; if not, that pass can be left out.

        Before the block: whether a group's rho can be positive. Inside it: whether a weight has moved, as `rho.Gate` needs.
        """
        if not self.ascent.needs_clean:
            return True
        trip = self._passes.state.trip
        return bool(self._passes.groups.active()) if trip is None else trip.outcome.needs_second

    @contextmanager
    def clean(self) -> Iterator[None]:
        """The block of the first pass: the second one will then see the same random numbers, so the same dropout masks.

        Optional in scope "global", where around several micro-batches the first entry of a step counts. In scope
        "microbatch" every micro-batch has its own: what has accumulated so far is set aside for its two passes. In scopes
        "rank" and "microbatch" a `DistributedDataParallel` model does not reduce the gradients of this pass. The second pass
        draws the numbers of the default generators again, and so may another thread that draws from them meanwhile.

        Raises:
            PhaseError: if the weights are perturbed, or the second pass of the last micro-batch is missing.
        """
        self._passes.require_unperturbed("clean()")
        with first_pass(self._passes):
            yield

    def perturbed(self, scaler: Any = None) -> AbstractContextManager[None]:
        """The block of the second pass: forward and backward inside it run at `w + e`.

        On entry the first gradients are set aside; on exit the weights are `w` again, bit for bit, also after an exception
        (then the incomplete gradients are dropped and the next step starts afresh). The base steps with the gradient that
        the block leaves, also if nothing was perturbed because rho or the first gradient is 0, since the block may use
        another loss. If it leaves none then, the base steps with the first one.

        Args:
            scaler: the `torch.amp.GradScaler` that scaled the loss, if any. Go on with `scaler.step(opt)`; unscale for
                clipping, by `scaler.unscale_(opt)`, between the block and the step.

        Raises:
            PhaseError, TypeError: as `perturb` says; if `scaler` is no scaler.
        """
        return PerturbedBlock(self._passes, lambda: self.perturb(scaler), self.restore)

    @_disable_dynamo
    @torch.no_grad()
    def perturb(self, scaler: Any = None) -> None:
        """Move the weights to `w + e` and set the first gradients aside; `scaler` as in `perturbed`.

        Raises:
            PhaseError: if the weights are already perturbed, no first gradient is there, or it was not reduced as it must be.
            ValueError: if a schedule returns a negative or non-finite radius; the weights have not moved then.
        """
        depart(self._passes, plan(self._passes, scaler, self))

    @_disable_dynamo
    @torch.no_grad()
    def restore(self) -> None:
        """Bring the weights back to `w`, bit for bit, and leave the descent gradient in place.

        Raises:
            PhaseError: if the weights are not perturbed, or the second pass was not reduced as it must be.
        """
        restore(self._passes)

    def abort(self) -> None:
        """Abort a step: restore the weights and drop incomplete gradients; no effect while the weights are `w`."""
        abort(self._passes)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], T]) -> T: ...

    @_disable_dynamo
    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Let the base optimizer step; with a closure, run both passes first.

        Args:
            closure: does `zero_grad`, forward and backward and returns the loss. It runs twice, once where no group has a
                positive rho or every gradient is zero.

        Returns:
            The loss at `w` if a closure was given, else None.

        Raises:
            PhaseError: if the weights are perturbed, a closure comes after a finished second pass, neither a closure nor a
                second pass was given although one is needed, or a pass has left no gradient.
        """
        (passes := self._passes).require_unperturbed("step()")
        closure = None if closure is None else own_closure(closure)
        if closure is not None:
            return step_by_closure(passes, closure, self)
        if passes.state.phase is Phase.READY:
            require_ready(passes, self)
        else:
            take_only_pass(passes)
        if passes.state.step.ready:
            descend(passes)
        return None

    def first_step(self, zero_grad: bool = False) -> None:
        """`perturb()` under its name in two-step SAMs; `zero_grad` is ignored: first gradients are always set aside."""
        self.perturb()

    def second_step(self, zero_grad: bool = False) -> None:
        """`restore()` and `step()` under their name in two-step SAMs; `zero_grad` clears the gradients afterwards."""
        try:
            self.restore()
            self.step()
        finally:
            if zero_grad and self._passes.state.trip is None:
                self.zero_grad()

    @_disable_dynamo
    def zero_grad(self, set_to_none: bool = True) -> None:
        """Call the base's `zero_grad`; a step that was begun is dropped.

        Inside a second pass it clears the gradients of that pass, not those of earlier micro-batches.
        """
        self._passes.zero_grad(set_to_none)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the base, with this SAM's rho unless it has its own; checked as at construction."""
        self._passes.require_unperturbed("add_param_group()")
        self._passes.add_group(param_group)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        guard.watch(self, self._passes.state)

    def __repr__(self) -> str:
        usual = {"ascent": Gradient(), "descent": Perturbed(), "scope": "global", "rounding": "nearest"}
        names = ["rho", "geometry", *(name for name, value in usual.items() if getattr(self, name) != value), "base"]
        return without_counts(f"SAM({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})")


SAM.__signature__ = without_self(SAM.__init__)  # type: ignore[attr-defined]  # for help(): not that of __new__
