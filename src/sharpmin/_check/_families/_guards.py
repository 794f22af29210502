"""Calls that must be refused while the weights are w + e."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .._case import Fault, NotOffered, family, require
from .._trial import CLOSE, SGD, Quadratic, Trial, near, show


def _during(t: Trial, call: Callable[[Any, Quadratic], object]) -> tuple[bool, Quadratic]:
    """Make a call in the second pass; whether it was refused, and how the step ended."""
    f = Quadratic.new()
    opt = t.make([f.w])
    refused = False

    def run(k: int) -> Tensor:
        nonlocal refused
        loss = f(k)
        if k == 2:
            try:
                call(opt, f)
            except Exception:
                refused = True
        return loss

    t.step(opt, run)
    return refused, f


@family(
    "guard-checkpoint",
    "No checkpoint and no copy while the weights are perturbed",
    right="state_dict(), deepcopy and add_param_group raise in the second pass, and the step goes on",
    fix="raise while the weights are perturbed",
    faults=(5,),
)
def guard_checkpoint(t: Trial) -> str:
    """A checkpoint taken there would hold w + e, and a run resumed from it would go on from there."""
    calls: dict[str, Callable[[Any, Quadratic], object]] = {
        "state_dict()": lambda opt, f: opt.state_dict(),
        "deepcopy": lambda opt, f: copy.deepcopy(opt),
        "add_param_group()": lambda opt, f: opt.add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))]}),
    }
    for name, call in calls.items():
        refused, f = _during(t, call)
        if not refused:
            if not t.ours:
                raise NotOffered("makes no difference between w and w + e for state_dict(), deepcopy and add_param_group()")
            raise Fault(f"{name} did not raise")
        require(near(f.w, (2.67, 0.44), CLOSE), f"{name}: w' = {show(f.w)}", "w' = (2.67, 0.44)")
    return "all three raise"


@family(
    "guard-other-optimizer",
    "Another optimizer does not step on perturbed weights",
    right="its step() raises in the second pass, and w' = (2.67, 0.44)",
    fix="watch the steps of other optimizers while the weights are perturbed",
    faults=(5, 8),
)
def guard_other_optimizer(t: Trial) -> str:
    """A second optimizer over the same weight: its step would be lost, or made permanent in the wrong place."""
    refused, f = _during(t, lambda opt, f: SGD([f.w], lr=0.1).step())
    if not refused:
        if not t.ours:
            raise NotOffered("lets other optimizers step while the weights are perturbed, as torch does")
        raise Fault(f"it stepped; w' = {show(f.w)}")
    require(near(f.w, (2.67, 0.44), CLOSE), f"w' = {show(f.w)}")
    return "its step() raises"
