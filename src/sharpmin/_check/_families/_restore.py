"""The way back: exact, and also after an exception."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .._case import Fault, demand, family
from .._trial import Trial, backward, same, show

STEPS = 200


@family(
    "restore-exact",
    "200 steps at lr = 0: no drift, in bfloat16 and float32",
    right="a drift of exactly 0",
    fix="copy the weights back from a backup instead of subtracting the perturbation",
    faults=(8, 9),
)
def restore_exact(t: Trial) -> str:
    """(w + e) - e is not w in floating point."""
    for dtype in (torch.bfloat16, torch.float32):
        w = nn.Parameter(torch.randn(64).to(dtype))
        was = w.detach().clone()
        opt = t.make([w], 0.05, lr=0.0)

        def run(_: int, w: nn.Parameter = w) -> Tensor:
            loss = (w * torch.randn(64).to(w.dtype)).sum()
            return backward(loss)

        for _ in range(STEPS):
            t.step(opt, run)
        drift = (w.detach().double() - was.double()).norm() / was.double().norm()
        demand(same(w, was), f"{str(dtype).removeprefix('torch.')}: a relative drift of {float(drift):.2g}")
    return "0"


class _OutOfMemory(Exception):
    """What the second pass runs into."""


@family(
    "second-pass-error",
    "An exception in the second pass does not leave w + e behind",
    right="w = (3, 1) after the next step at lr = 0",
    fix="restore in a finally clause, or at the latest when the next step begins",
    faults=(5,),
)
def second_pass_error(t: Trial) -> str:
    """The caller catches it (out of memory, a bad batch) and goes on with the next batch."""
    w = nn.Parameter(torch.tensor([3.0, 1.0], dtype=torch.float64))
    opt = t.make([w], lr=0.0)
    fails = True

    def run(k: int) -> Tensor:
        if k == 2 and fails:
            raise _OutOfMemory
        loss = (w[0] ** 2 + 4 * w[1] ** 2) / 2
        return backward(loss)

    try:
        t.step(opt, run)
    except _OutOfMemory:
        pass
    else:
        raise Fault("the exception was swallowed", "the exception reaches the caller")
    if t.door != "two-step":
        demand(same(w, torch.tensor([3.0, 1.0], dtype=torch.float64)), f"w = {show(w)} after the exception", "w = (3, 1)")
    fails = False
    t.go_on(opt, run)
    off = float((w.detach() - torch.tensor([3.0, 1.0], dtype=torch.float64)).abs().max())
    demand(off == 0, f"w = {show(w)} after the next step at lr = 0, off by {off:.2g}")
    return f"w = {show(w)}"
