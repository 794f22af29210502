"""Gradients that are inf or nan in one of the passes."""

from __future__ import annotations

import torch

from .._case import Fault, NotOffered, family
from .._trial import Quadratic, Trial, near, same, show


def _spoiled(t: Trial, at: int) -> str:
    """A step with an inf in pass `at`, then a healthy one, with momentum."""
    f = Quadratic.new(torch.float32)
    opt = t.make([f.w], options={"momentum": 0.9})
    t.step(opt, f)
    f.reset()

    def spoil(k: int) -> None:
        if k == at and f.w.grad is not None:
            f.w.grad[0] = float("inf")

    f.spoil = spoil
    t.step(opt, f)
    if not same(f.w, torch.tensor([3.0, 1.0])):
        if at == 2 and not t.ours and _as_the_base(f):
            raise NotOffered("hands a gradient that is not finite to the base, as a bare torch optimizer would")
        raise Fault(f"w' = {show(f.w)}", "w' = (3, 1)")
    f.spoil = None
    t.step(opt, f)
    right = (3 - 0.1 * (0.9 * 3.3 + 3.3), 1 - 0.1 * (0.9 * 5.6 + 5.6))
    if not near(f.w, right, 1e-5):
        raise Fault(f"the next step goes to {show(f.w)}", f"the next step goes to ({right[0]:.6g}, {right[1]:.6g})")
    return "unchanged, and the next step is right"


def _as_the_base(f: Quadratic) -> bool:
    """Whether the weight with the inf went to -inf and the other stepped as SAM with momentum would."""
    return bool(f.w[0] == -float("inf")) and near(f.w[1:], (1 - 0.1 * (0.9 * 5.6 + 5.6),), 1e-5)


@family(
    "inf-first-gradient",
    "An inf in the first gradients changes nothing",
    right="weights and state unchanged, the next step as if nothing had happened",
    fix="check the norm; where it is not finite, do not perturb and skip the step",
    faults=(12, 21),
)
def inf_first(t: Trial) -> str:
    """inf / inf is nan, and with e = nan the second pass is lost."""
    return _spoiled(t, 1)


@family(
    "inf-second-gradient",
    "An inf in the second gradients changes nothing",
    right="weights and state unchanged, the next step as if nothing had happened",
    fix="check the gradients before the base steps, and skip the step where one is not finite",
    faults=(12,),
)
def inf_second(t: Trial) -> str:
    """A step that skips leaves the momentum alone too."""
    return _spoiled(t, 2)
