"""The vector a that the perturbation follows: this step's gradient, or one that is cheaper or less noisy.

| ascent | a_t | passes a step |
|---|---|---|
| `Gradient()` | g_t, the gradient at w | 2 |
| `Ema(theta)` | (1 - theta) a_{t-1} + theta g_t | 2 |
| `Momentum()` | minus the base optimizer's momentum | 1 |
| `PreviousGradient()` | the gradient that the previous step used | 1 |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from sharpmin.core.rho import finite

from ._numeric.kinds import at_least_float32, dense
from ._numeric.tensors import clone_all, combine, finite_or, negated, on_present
from ._protocols import Ascent, Context, ParameterState


@dataclass(frozen=True)
class Gradient(Ascent):
    """a = g, the gradient of this step (Foret et al., ICLR 2021, arXiv:2010.01412).

    >>> import torch
    >>> w = torch.zeros(1)
    >>> Gradient().update([w], [torch.ones(1)], {}, Context())
    ([tensor([1.])], {})
    """

    def update(
        self, weights: Sequence[Tensor], grads: Sequence[Tensor | None], state: ParameterState, context: Context
    ) -> tuple[Sequence[Tensor | None], ParameterState]:
        """Return the gradients unchanged."""
        return grads, state


@dataclass(frozen=True)
class Ema(Ascent):
    """VaSSO: a_t = (1 - theta) a_{t-1} + theta g_t with a_0 = 0, which suppresses the variance of the direction.

    Li & Giannakis, Enhancing Sharpness-Aware Optimization Through Variance Suppression, NeurIPS 2023, arXiv:2309.15639,
    eq. 4. Costs one parameter-sized state, float32 for half-precision weights, which travels in `state_dict`. In scope
    "microbatch" every micro-batch is a t; a step with rho = 0 is none. A gradient that is not finite leaves the average alone.

    Args:
        theta: the weight of the newest gradient, in (0, 1]; 1 is SAM.

    Raises:
        ValueError: if theta is not in (0, 1].

    >>> import torch
    >>> w, ascent = torch.zeros(1), Ema(theta=0.5)
    >>> (a,), state = ascent.update([w], [torch.ones(1)], ascent.init(), Context())
    >>> (b,), state = ascent.update([w], [torch.ones(1)], state, Context())
    >>> a, b
    (tensor([0.5000]), tensor([0.7500]))
    """

    stateful: ClassVar[bool] = True
    theta: float = 0.2

    def __post_init__(self) -> None:
        if finite(self.theta, "theta", "Ema", low=0, strict=True) > 1:
            raise ValueError(f"Ema: theta={self.theta!r}; theta must be in (0, 1]")

    def update(
        self, weights: Sequence[Tensor], grads: Sequence[Tensor | None], state: ParameterState, context: Context
    ) -> tuple[Sequence[Tensor | None], ParameterState]:
        """Return the new averages; a parameter without a gradient keeps its average and is not perturbed."""
        return running_mean(weights, grads, state, self.theta)


def running_mean(
    weights: Sequence[Tensor], grads: Sequence[Tensor | None], state: ParameterState, share: float
) -> tuple[list[Tensor | None], ParameterState]:
    """Return m = (1 - share) m + share g, starting from m = 0, and the next state; an m with inf or nan is not stored.

    >>> w = torch.zeros(1)
    >>> running_mean([w], [torch.ones(1)], {}, 0.5)[0]
    [tensor([0.5000])]
    """
    pairs = [(w, dense(g)) for w, g in zip(weights, grads, strict=True) if g is not None]
    before = [state[w] if w in state else torch.zeros_like(at_least_float32(g)) for w, g in pairs]
    means = combine(before, [g for _, g in pairs], 1 - share, share)
    new = {**state, **dict(zip([w for w, _ in pairs], finite_or(means, before), strict=True))}
    each = iter(means)
    return [None if g is None else next(each) for g in grads], new


@dataclass(frozen=True)
class Momentum(Ascent):
    """MSAM: a_t = -m_t, minus the momentum that the base optimizer keeps anyway, so a step needs one pass.

    Becker, Altrock & Risse, Momentum-SAM: Sharpness Aware Minimization without Computational Overhead, 2024,
    arXiv:2401.12033, algorithm 1: `e = -rho m / ||m||`. The first step has no momentum,
    so it is a plain step of the base. Write only `with opt.perturbed(): ...backward()`, then `step()`; a closure runs once.

    >>> import torch
    >>> w = torch.zeros(1)
    >>> Momentum().update([w], [None], {}, Context(base_state={w: {"momentum_buffer": torch.ones(1)}}))[0]
    [tensor([-1.])]
    """

    needs_clean: ClassVar[bool] = False

    def update(
        self, weights: Sequence[Tensor], grads: Sequence[Tensor | None], state: ParameterState, context: Context
    ) -> tuple[Sequence[Tensor | None], ParameterState]:
        """Return minus `momentum_buffer` (SGD) or `exp_avg` (Adam and similar optimizers)."""
        kept = [context.base_state.get(w, {}) for w in weights]
        buffers = [own.get("momentum_buffer", own.get("exp_avg")) for own in kept]
        return on_present(negated, buffers), state

    def check(self, groups: Iterable[Mapping[str, Any]]) -> None:
        """Refuse a base without momentum.

        Raises:
            ValueError: if a group has neither a positive `momentum` nor `betas`.
        """
        for group in groups:
            if not group.get("momentum") and "betas" not in group:
                raise ValueError(
                    "SAM: ascent=Momentum() needs the momentum of the base optimizer, and this base keeps none; use "
                    "SGD(..., momentum=0.9) or Adam"
                )


@dataclass(frozen=True)
class PreviousGradient(Ascent):
    """S2-SAM: a_t is the gradient that the previous step used, so a step needs one pass.

    Ji, Li, Fu, Afghah, Guo, Yuan & Ma, A Single-Step, Sharpness-Aware Minimization is All You Need to Achieve Efficient and
    Accurate Sparse Training, NeurIPS 2024: `e_t = rho G_{t-1} / ||G_{t-1}||` with `G_t = grad f(w_t + e_t)`, as in its
    authors' code. That gradient is of another batch and of the weights before. The first step has none and is the base's; so
    is a parameter that had none at the last step. Clipped or unscaled before the step, it is kept as the base saw it. Costs
    one parameter-sized state, which travels in `state_dict`.

    Write only `with opt.perturbed(): ...backward()`, then `step()`; a closure runs once.

    >>> import torch
    >>> w, ascent = torch.zeros(1), PreviousGradient()
    >>> state = ascent.learn([w], [torch.ones(1)], ascent.init())
    >>> ascent.update([w], [None], state, Context())[0]
    [tensor([1.])]
    """

    needs_clean: ClassVar[bool] = False
    stateful: ClassVar[bool] = True
    learns: ClassVar[bool] = True

    def learn(self, weights: Sequence[Tensor], grads: Sequence[Tensor], state: ParameterState) -> ParameterState:
        """Return copies of the gradients as the next state; where a gradient is not finite, the old copy stays."""
        new = clone_all([dense(g) for g in grads])
        before = [state[w] if w in state else torch.zeros_like(g) for w, g in zip(weights, new, strict=True)]
        return dict(zip(weights, finite_or(new, before), strict=True))

    def update(
        self, weights: Sequence[Tensor], grads: Sequence[Tensor | None], state: ParameterState, context: Context
    ) -> tuple[Sequence[Tensor | None], ParameterState]:
        """Return the stored gradients, with their sign set so that the loss grows; None for a parameter without one."""
        kept = [state.get(w) for w in weights]
        return on_present(negated, kept) if context.group.get("maximize") else kept, state
