"""Restoring w: exactly, after an exception in the second pass or in the base, and after a wrapper was lost."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .._case import Fault, NotOffered, family, require
from .._doors import has_two_steps
from .._shared import back
from .._shared.scene import golden, played
from .._trial import Holder, Trial, same, show

STEPS = 50


@family(
    "restore-exact",
    "50 steps at lr = 0: no drift, in bfloat16 and float32",
    right="a drift of exactly 0",
    fix="copy the weights back from a backup instead of subtracting the perturbation",
    faults=(8, 9),
)
def restore_exact(t: Trial) -> str:
    """(w + e) - e is not w in floating point: 256 weights that round 50 times each."""
    for dtype in (torch.bfloat16, torch.float32):
        w = nn.Parameter(torch.randn(256).to(dtype))

        def loss(_: int, w: nn.Parameter = w) -> Tensor:
            return (w * torch.randn(256).to(w.dtype)).sum()

        try:
            back.restore(played(t, Holder([w]), loss, 0.05, lr=0.0), STEPS)
        except Fault as fault:
            raise Fault(f"{str(dtype).removeprefix('torch.')}: {fault.observed}") from None
    return "0"


@family(
    "second-pass-error",
    "An exception in the second pass does not leave w + e behind",
    right="w after the next step at lr = 0",
    fix="restore in a finally clause, or at the latest when the next step begins",
    faults=(5,),
)
def second_pass_error(t: Trial) -> str:
    """The caller catches it (out of memory, a bad batch) and goes on with the next batch."""
    return back.second_pass_error(golden(t, lr=0.0)[0])


@family(
    "base-step-error",
    "After an exception in the base's step the next step works",
    right="w after the exception, and a next step as if nothing had happened",
    fix="reset the wrapper's state in a finally clause around the base's step",
    faults=(31,),
)
def base_step_error(t: Trial) -> str:
    """Such as running out of memory where the base makes its state; the caller goes on with the next batch."""
    failing = False

    class Fails(torch.optim.SGD):
        """SGD whose step raises on demand, before it changes anything."""

        def step(self, closure: Any = None) -> Any:
            if failing:
                raise back.Stop
            return super().step(closure)

    def fail(on: bool) -> None:
        nonlocal failing
        failing = on

    return back.base_step_error(golden(t, base=Fails)[0], golden(t)[0], fail)


@family(
    "lost-wrapper",
    "A new wrapper restores weights that a lost one left at w + e",
    right="w = (3, 1), bit for bit, once the new one is made, and a step as if nothing had happened",
    fix="remember outside the wrapper which weights are perturbed, and restore them when the next one is made",
    faults=(32,),
)
def lost_wrapper(t: Trial) -> str:
    """A notebook cell that was interrupted between first_step() and second_step(), and is run again."""
    s, f = golden(t)
    if not has_two_steps(s.opt):
        raise NotOffered("step(closure) does both passes, so nothing can be lost between two calls")
    seen = back.lost(s, lambda: t.make([f.w], model=s.model))
    undisturbed, right = golden(t)
    undisturbed.step()
    require(same(f.w, right.w), f"the new one's step ends at w' = {show(f.w)}, and without the lost one at {show(right.w)}")
    return seen
