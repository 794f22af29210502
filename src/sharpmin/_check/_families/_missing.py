"""Parameters that have no gradient in one pass or in both: LayerDrop, mixtures of experts, auxiliary heads."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .._case import Fault, family, require
from .._shared import passes
from .._shared.scene import golden
from .._trial import CLOSE, Trial, backward, near, show


def _pair() -> tuple[nn.Parameter, nn.Parameter]:
    return nn.Parameter(torch.tensor(3.0, dtype=torch.float64)), nn.Parameter(torch.tensor(4.0, dtype=torch.float64))


@family(
    "no-second-gradient",
    "A parameter without a gradient in the second pass comes back",
    right="b' = 4",
    fix="key the backup by what was perturbed, not by what has a gradient in the second pass",
    faults=(2,),
)
def no_second_gradient(t: Trial) -> str:
    """b takes part in the first pass only, so it must be where it was."""
    a, b = _pair()

    def run(k: int) -> Tensor:
        loss = (a**2 + b**2) / 2 if k == 1 else a**2 / 2
        return backward(loss)

    t.step(t.make([a, b]), run)
    require(float(b) == 4.0, f"b' = {show(b)}")
    require(near(a, (2.67,), CLOSE), f"a' = {show(a)}", "a' = 2.67")
    return f"b' = {show(b)}"


@family(
    "no-first-gradient",
    "A parameter without a gradient in the first pass is stepped",
    right="b' = 3.6",
    fix="perturb what has a gradient, and let the base step on whatever has one afterwards",
    faults=(3,),
)
def no_first_gradient(t: Trial) -> str:
    """b takes part in the second pass only: it is not perturbed, and its gradient is 4."""
    a, b = _pair()

    def run(k: int) -> Tensor:
        loss = (a**2 + b**2) / 2 if k == 2 else a**2 / 2
        return backward(loss)

    t.step(t.make([a, b]), run)
    require(near(b, (3.6,), CLOSE), f"b' = {show(b)}")
    require(near(a, (2.65,), CLOSE), f"a' = {show(a)}", "a' = 2.65")
    return f"b' = {show(b)}"


@family(
    "no-gradient",
    "No gradient at all: nothing moves",
    right="w' = (3, 1); an error must say that gradients are missing",
    fix="let an empty list of gradients have the norm 0, or refuse it and say so",
    faults=(2, 3),
)
def no_gradient(t: Trial) -> str:
    """Every `grad` is None in both passes, and no loss needs one."""
    s, _ = golden(t)
    s.silent, s.instead = (1, 2), {1: lambda: torch.zeros(()), 2: lambda: torch.zeros(())}
    return passes.never(s, legal=True)


@family(
    "no-backward",
    "A loss whose backward() is never called makes no step",
    right="an error that says so, after which the next step works, or no step reported",
    fix="raise where a loss needs gradients and no parameter has one",
    faults=(29,),
)
def no_backward(t: Trial) -> str:
    """A forgotten backward() must not go unnoticed; in a closure too."""
    s, _ = golden(t)
    s.silent = (1, 2)
    return passes.never(s, legal=False)


@family(
    "missing-first",
    "First gradients that are cleared or never computed do not count as zero",
    right="an error that says so, after which the golden step works, or a step with the second gradient",
    fix="raise where no parameter has a gradient before the perturbation; never drop the second one silently",
    faults=(29,),
)
def missing_first(t: Trial) -> str:
    """zero_grad() in the wrong place, and a first backward() that was forgotten: twenty such steps must not train nothing."""
    said = []
    for name in ("cleared", "never made"):
        s, f = golden(t)
        if name == "cleared":
            s.passes = lambda k, when, opt=s.opt: opt.zero_grad() if (k, when) == (1, "after") else None
        else:
            s.silent = (1,)
        try:
            said.append(f"{name}: {passes.missing(s)}")
        except Fault as fault:
            raise Fault(f"{name}: {fault.observed}", fault.right) from None
        ends = [(2.67, 0.44), (2.7, 0.6), (3.0, 1.0)]  # the next step after an error; with the second gradient at w; no step
        require(any(near(f.w, end, CLOSE) for end in ends), f"{name}: w' = {show(f.w)}")
    return "; ".join(said)


@family(
    "stale-perturbation",
    "An old perturbation is not subtracted a second time",
    right="no drift at lr = 0",
    fix="forget the backup when the weights are restored",
    faults=(4,),
)
def stale_perturbation(t: Trial) -> str:
    """b takes part in the first step only; two more steps must leave it alone."""
    a, b = _pair()
    used = True

    def run(_: int) -> Tensor:
        loss = (a**2 + b**2) / 2 if used else a**2 / 2
        return backward(loss)

    opt = t.make([a, b], lr=0.0)
    t.step(opt, run)
    used = False
    for _ in range(2):
        t.step(opt, run)
    require(abs(float(b) - 4.0) < 1e-12, f"b = {show(b)} after 3 steps at lr = 0, from 4")
    return "no drift"
