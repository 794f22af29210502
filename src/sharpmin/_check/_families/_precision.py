"""Weights in so low a precision that rounding loses the perturbation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .._case import family, require
from .._trial import Trial, show


@family(
    "lost-ascent",
    "A perturbation that is lost to bfloat16 rounding is reported",
    right="the weights move, or a warning or a report says that they did not",
    fix="measure what rounding leaves of the perturbation and say so; stochastic rounding keeps it",
    faults=(11, 18),
)
def lost_ascent(t: Trial) -> str:
    """1000 weights of 1, equal gradients, rho 0.05: each asks for 0.0016, and rounding needs 0.0039."""
    w, seen = nn.Parameter(torch.ones(1000, dtype=torch.bfloat16)), []

    def run(_: int) -> Tensor:
        seen.append(w.detach().double().clone())
        w.grad = torch.ones_like(w)
        return torch.zeros(())

    opt = t.make([w], 0.05)
    t.step(opt, run)
    length = (seen[-1] - seen[0]).norm()
    gain = float((seen[-1] - seen[0]).sum()) / (0.05 * 1000**0.5)
    told = [text for text in t.warnings() if any(word in text for word in ("bfloat16", "precision", "round"))]
    report = getattr(opt, "last", None)
    if getattr(report, "gain", None) == 0.0 and getattr(report, "radius", None) == 0.0:
        told.append("opt.last: gain 0, radius 0")
    require(gain > 0.9 or bool(told), f"||e|| = {show(length)} of 0.05, and nothing is said")
    return f"||e|| = {show(length)}: {told[0][:100] if told else 'moved'}"
