"""Where nothing is perturbed: rho = 0 is the base optimizer, and a zero gradient moves nothing."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sharpmin.core.rho import Tail

from .._case import Fault, NotOffered, family, require
from .._shared import passes
from .._shared.scene import Played, played
from .._trial import AdamW, Holder, Training, Trial, give, same, show

STEPS = 20


def _zero(t: Trial, f: Training) -> Played:
    return played(t, f.net, lambda _: f.loss(), 0.0, base=AdamW, lr=0.01)


def _bare(f: Training) -> Played:
    return Played(f.net, AdamW(f.net.parameters(), lr=0.01), "", lambda _: f.loss())


@family(
    "rho-zero",
    "rho = 0 is the base optimizer, bit for bit",
    right="weights of bare AdamW after 20 steps, bit for bit",
    fix="skip the perturbation where rho is 0",
    faults=(24,),
)
def rho_zero(t: Trial) -> str:
    """Twenty steps of AdamW on a network."""
    s, bare = _zero(t, Training()), _bare(Training())
    return passes.rho_zero(s, bare, bare.opt, STEPS)


@family(
    "rho-zero-no-trace",
    "rho = 0 leaves no trace in BatchNorm, state and random numbers",
    right="buffers, optimizer state and random state of bare AdamW after 20 steps",
    fix="with rho = 0 make one pass, or undo what the second one did to buffers and generators",
    faults=(14, 24),
)
def rho_zero_no_trace(t: Trial) -> str:
    """The same with BatchNorm, and Dropout where the optimizer sees the whole step; by closure also in one pass."""
    t.need_model()
    dropout = t.door in ("closure", "clean")  # else the first forward is the caller's, and the second draws a new mask
    f = Training(normed=True, dropout=dropout)
    s, bare = _zero(t, f), _bare(Training(normed=True, dropout=dropout))
    passes.rho_zero(s, bare, bare.opt, STEPS, trace=True)
    if t.ours:
        require(same(s.opt.state_dict()["state"], bare.opt.state_dict()["state"]), "the optimizer state differs")
        made = STEPS * (1 if t.door == "closure" else 2)
        require(f.forwards == made, f"{f.forwards} forward passes", f"{made} forward passes")
    return "equal"


@family(
    "zero-gradient",
    "A gradient of zeros moves nothing, in any dtype",
    right="finite weights, unchanged, in float32, bfloat16 and float16",
    fix="divide by the norm only where it is positive; a small constant underflows in float16",
    faults=(10, 21),
)
def zero_gradient(t: Trial) -> str:
    """0 / (0 + 1e-12) is nan in float16."""
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        w = nn.Parameter(torch.tensor([3.0, 1.0], dtype=dtype))
        was = copy.deepcopy(w.detach())

        seen: list[Tensor] = []

        def run(_: int, w: nn.Parameter = w, seen: list[Tensor] = seen) -> Tensor:
            seen.append(w.detach().clone())
            give({w: torch.zeros_like(w)})
            return torch.zeros(())

        t.step(t.make([w]), run)
        name = str(dtype).removeprefix("torch.")
        if not same(seen[-1], was):
            raise Fault(f"{name}: second pass at {show(seen[-1])}", "second pass at (3, 1)")
        if not same(w, was):
            raise Fault(f"{name}: w' = {show(w)}", "w' = (3, 1)")
    return "unchanged"


@family(
    "rest-counts",
    "Where nothing is perturbed, the step uses the gradient of the second pass",
    right="w' = (0.8, 0.4)",
    fix="where nothing is perturbed, keep the gradient of the second pass, and do not add the first one to it",
    faults=(30,),
)
def rest_counts(t: Trial) -> str:
    """First w1^2, then w1^2 + 3 w2^2, from (1, 1) at lr 0.1: where rho or the first gradient is 0, and before Tail starts."""
    cases: dict[str, tuple[Any, float]] = {"zero first gradient": (0.5, 0.0), "rho 0": (0.0, 1.0)}
    if t.ours:
        cases["before the start of Tail"] = (Tail(0.5, start=1), 1.0)
    refused, seen = [], ""
    for name, (rho, share) in cases.items():
        w = nn.Parameter(torch.ones(2, dtype=torch.float64))

        def loss(k: int, w: nn.Parameter = w, share: float = share) -> Tensor:
            return share * w[0] ** 2 if k == 1 else w[0] ** 2 + 3 * w[1] ** 2

        try:
            s = played(t, Holder([w]), loss, rho)
        except NotOffered as reason:
            refused.append(reason)
            continue

        def told(now: Sequence[Tensor], name: str = name) -> str:
            return f"{name}: w' = {show(now)}"

        seen = passes.second_counts(s, lambda: [torch.tensor([0.8, 0.4], dtype=torch.float64)], told)
    if refused and not seen:
        raise refused[0]
    return "w' = (0.8, 0.4)"
