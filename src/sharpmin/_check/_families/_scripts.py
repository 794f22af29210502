"""Scripts written for the common two-step wrapper, unmodified."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import StepLR
from torch.optim.optimizer import Optimizer

from .._case import Fault, NotOffered, family, require
from .._doors import has_two_steps
from .._trial import CLOSE, Trial, backward, near, show


def _need_two_steps(t: Trial, opt: Any) -> None:
    if t.door != "two-step" or not has_two_steps(opt):
        raise NotOffered("a script of first_step() and second_step() goes through another door")
    for name in ("first_step", "second_step"):
        if "zero_grad" not in inspect.signature(getattr(opt, name)).parameters:
            raise NotOffered(f"{name}() takes no zero_grad")


def _step(opt: Any, first: Callable[[], Tensor], second: Callable[[], Tensor]) -> None:
    """One step as such a script has it; nothing else clears a gradient."""
    backward(first())
    opt.first_step(zero_grad=True)
    backward(second())
    opt.second_step(zero_grad=True)


@family(
    "script-base-optimizer",
    "A script that uses optimizer.base_optimizer",
    right="steps of 0.1, then 0.01 by a scheduler on base_optimizer, then 0.5 by its param_groups",
    fix="give the base the name base_optimizer too, and step it by its own groups",
    faults=(17, 33),
)
def script_base_optimizer(t: Trial) -> str:
    """f(w) = w, so that steps are as long as the learning rate."""
    w = nn.Parameter(torch.tensor(1.0, dtype=torch.float64))
    opt = t.make([w])
    _need_two_steps(t, opt)
    base = getattr(opt, "base_optimizer", None)
    if not isinstance(base, Optimizer):
        if t.ours:
            raise Fault("has no attribute base_optimizer")
        raise NotOffered("has no attribute base_optimizer that is an optimizer")

    def moved() -> float:
        before = float(w)
        _step(opt, lambda: 1.0 * w, lambda: 1.0 * w)
        return round(before - float(w), 12)

    scheduler = StepLR(base, 1, 0.1)
    steps = [moved()]
    scheduler.step()
    steps.append(moved())
    for group in base.param_groups:
        group["lr"] = 0.5
    steps.append(moved())
    seen = "steps of {:g}, then {:g}, then {:g}".format(*steps)
    require(steps == [0.1, 0.01, 0.5], seen)
    return seen


@family(
    "script-two-losses",
    "A script with another loss in the second pass",
    right="w' = (2.34, 0.16), then (1.78907, 0.0248541)",
    fix="step with the gradient of the second loss at w + e, and leave none of it to the next step",
    faults=(30, 34),
)
def script_two_losses(t: Trial) -> str:
    """The golden f first, e = (0.3, 0.4); then w1^2 + 3 w2^2, G = (6.6, 8.4); the next step shows if gradients are cleared."""
    w = nn.Parameter(torch.tensor([3.0, 1.0], dtype=torch.float64))
    opt = t.make([w])
    _need_two_steps(t, opt)
    for right in ((2.34, 0.16), _by_hand(2.34, 0.16)):
        _step(opt, lambda: (w[0] ** 2 + 4 * w[1] ** 2) / 2, lambda: w[0] ** 2 + 3 * w[1] ** 2)
        require(near(w, right, CLOSE), f"w' = {show(w)}", f"w' = ({right[0]:.6g}, {right[1]:.6g})")
    return f"w' = (2.34, 0.16), then {show(w)}"


def _by_hand(x: float, y: float, rho: float = 0.5, lr: float = 0.1) -> tuple[float, float]:
    """One step of it in plain numbers."""
    norm = (x**2 + (4 * y) ** 2) ** 0.5
    return x - lr * 2 * (x + rho * x / norm), y - lr * 6 * (y + rho * 4 * y / norm)
