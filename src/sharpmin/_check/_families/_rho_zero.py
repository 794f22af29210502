"""Where nothing is perturbed: rho = 0 is the base optimizer, and a zero gradient moves nothing."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from .._case import Fault, demand, family
from .._trial import AdamW, Training, Trial, copies, difference, give, same, show

STEPS = 20


def _zero(t: Trial, f: Training) -> Any:
    return t.make(list(f.net.parameters()), 0.0, base=AdamW, lr=0.01, model=f.net)


def _bare(f: Training) -> torch.optim.Optimizer:
    opt = AdamW(f.net.parameters(), lr=0.01)
    for _ in range(STEPS):
        opt.zero_grad()
        f(1)
        opt.step()
    return opt


@family(
    "rho-zero",
    "rho = 0 is the base optimizer, bit for bit",
    right="weights of bare AdamW after 20 steps, bit for bit",
    fix="skip the perturbation where rho is 0",
    faults=(24,),
)
def rho_zero(t: Trial) -> str:
    """Twenty steps of AdamW on a network."""
    f, bare = Training(), Training()
    opt = _zero(t, f)
    for _ in range(STEPS):
        t.step(opt, f)
    _bare(bare)
    ours, theirs = copies(f.net.parameters()), copies(bare.net.parameters())
    demand(same(ours, theirs), f"weights differ by {difference(ours, theirs)}")
    return "equal"


@family(
    "rho-zero-no-trace",
    "rho = 0 leaves no trace in BatchNorm, state and random numbers",
    right="buffers, optimizer state and random state of bare AdamW after 20 steps",
    fix="with rho = 0 make one pass, or undo what the second one did to buffers and generators",
    faults=(14, 24),
)
def rho_zero_no_trace(t: Trial) -> str:
    """The same with BatchNorm and Dropout; by closure also in one pass."""
    t.need_model()
    f, bare = Training(noise=True), Training(noise=True)
    start = torch.get_rng_state()
    opt = _zero(t, f)
    for _ in range(STEPS):
        t.step(opt, f)
    random = torch.get_rng_state()
    torch.set_rng_state(start)
    base = _bare(bare)
    demand(same(dict(f.net.named_buffers()), dict(bare.net.named_buffers())), "the buffers differ")
    demand(torch.equal(random, torch.get_rng_state()), "the random state differs")
    ours, theirs = copies(f.net.parameters()), copies(bare.net.parameters())
    demand(same(ours, theirs), f"weights differ by {difference(ours, theirs)}")
    if t.ours:
        demand(same(opt.state_dict()["state"], base.state_dict()["state"]), "the optimizer state differs")
        passes = STEPS * (1 if t.door == "closure" else 2)
        demand(f.forwards == passes, f"{f.forwards} forward passes", f"{passes} forward passes")
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
