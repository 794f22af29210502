"""Learning-rate schedulers and step hooks on the optimizer under test."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import StepLR
from torch.optim.optimizer import Optimizer

from .._case import NotOffered, family, require
from .._shared import around
from .._shared.scene import played
from .._trial import Trial, backward


class Slope(nn.Module):
    """f(w) = w: every step of SGD moves by the learning rate."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(1.0, dtype=torch.float64))

    def __call__(self, _: int) -> Tensor:
        """Forward and backward."""
        return backward(1.0 * self.w)


def _linked(t: Trial, *, load: bool) -> str:
    """The learning rates are seen by how far the steps go."""
    f = Slope()
    s = played(t, f, lambda _: 1.0 * f.w)

    def step() -> list[float]:
        before = float(f.w)
        s.step()
        return [round(before - float(f.w), 12)]

    return around.scheduler(s, step, load=load)


@family(
    "scheduler-linked",
    "A scheduler on the optimizer reaches the base",
    right="steps of 0.1, then 0.01",
    fix="share the base's param_groups, the very list",
    faults=(17,),
)
def scheduler_linked(t: Trial) -> str:
    """StepLR with gamma 0.1."""
    return _linked(t, load=False)


@family(
    "scheduler-after-load",
    "The scheduler still reaches the base after load_state_dict",
    right="steps of 0.1, then 0.01",
    fix="let load_state_dict go to the base, and take the groups from it",
    faults=(17,),
)
def scheduler_after_load(t: Trial) -> str:
    """Loading puts new groups in place."""
    return _linked(t, load=True)


@family(
    "scheduler-order",
    "A scheduler sees that the optimizer has stepped",
    right="no warning about the order of optimizer.step() and scheduler.step()",
    fix="go through step(), which schedulers watch, in every way of taking a step",
    faults=(23, 25),
)
def scheduler_order(t: Trial) -> str:
    """Torch warns if a scheduler steps before its optimizer's step() was called."""
    f = Slope()
    opt = t.make([f.w])
    if not isinstance(opt, Optimizer):
        raise NotOffered("is no torch.optim.Optimizer, which a scheduler demands; attach it to the base")
    scheduler = StepLR(opt, 1, 0.1)
    t.step(opt, f)
    scheduler.step()
    order = [text for text in t.warnings() if "lr_scheduler.step()" in text]
    require(not order, "torch warns of lr_scheduler.step() before optimizer.step()")
    return "no warning"


@family(
    "step-hooks",
    "Step hooks fire once a step",
    right="1 call before, 1 call after",
    fix="go through step(), which fires the hooks, in every way of taking a step",
    faults=(23,),
)
def step_hooks(t: Trial) -> str:
    """Hooks of the instance, before and after."""
    f = Slope()
    opt = t.make([f.w])
    t.need(opt, "register_step_pre_hook", "register_step_post_hook")
    calls = {"before": 0, "after": 0}

    def count(when: str) -> Any:
        def hook(*_: Any) -> None:
            calls[when] += 1

        return hook

    opt.register_step_pre_hook(count("before"))
    opt.register_step_post_hook(count("after"))
    t.step(opt, f)
    seen = f"{calls['before']} calls before, {calls['after']} calls after"
    require((calls["before"], calls["after"]) == (1, 1), seen)
    return seen.replace("calls", "call")
