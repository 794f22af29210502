"""FSDP2: weights that come back in place on every rank, and ranks that step together or not at all."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .._case import family, require
from .._rank_trial import LR, RankTrial
from .._trial import CLOSE, backward, copies, difference, flat, near, same
from ._fsdp import Split, part, sharded


@family(
    "fsdp-restore",
    "FSDP2: every part comes back bit for bit, in place",
    right="a drift of exactly 0, and parts at their old addresses",
    fix="copy the backup into the local part; to swap p.data of a DTensor is without effect",
    faults=(6, 9),
    ranks=True,
)
def restore(t: RankTrial) -> str:
    """4 steps at lr = 0 with 900 weights."""
    for dtype in (torch.float32, torch.bfloat16):
        net = nn.Sequential(nn.Linear(8, 52), nn.Tanh(), nn.Linear(52, 8)).to(dtype)
        model = sharded(t, net)
        opt = t.make(list(model.parameters()), lr=0.0, model=model)
        parts = [part(p) for p in model.parameters()]
        was, places = copies(parts), [p.data_ptr() for p in parts]
        x = torch.randn(8, 8, generator=torch.Generator().manual_seed(t.rank)).to(dtype)
        for _ in range(4):
            t.step(opt, lambda _, x=x, model=model: backward(model(x).float().square().mean()))  # type: ignore[misc]
        now = [part(p) for p in model.parameters()]
        kind = str(dtype).removeprefix("torch.")
        seen = t.told(f"{kind}: the parts differ by {difference(was, now)}")
        require(all(t.gathered(same(was, now))), seen)
        seen = t.told(f"{kind}: the parts have moved to another address")
        require(all(t.gathered(places == [p.data_ptr() for p in now])), seen)
    return "bit for bit, in place"


@family(
    "fsdp-nonfinite",
    "Sharded weights: an inf in one part makes no rank step alone",
    right="either every rank steps, or none",
    fix="reduce over the ranks whether all gradients are finite, before anybody steps",
    faults=(12,),
    ranks=True,
)
def nonfinite(t: RankTrial) -> str:
    """w = (3, 1), one entry a rank; an inf in the gradient of rank 1 in pass 1, then in pass 2."""
    for at in (1, 2):
        f = Split(t.world, ([3.0, 1.0], [1.0, 4.0]))
        was = part(f.parameters[0]).clone()

        def run(k: int, at: int = at, f: Split = f) -> Tensor:
            loss = f(k)
            grad = f.parameters[0].grad
            if k == at and t.rank == 1 and grad is not None:
                part(grad)[0] = float("inf")
            return loss

        t.step(t.make(flat(f.parameters), lr=LR), run)
        stepped = t.gathered(not near(part(f.parameters[0]), was.tolist(), CLOSE))[:2]  # further ranks hold nothing
        words = ["stepped" if moved else "did not" for moved in stepped]
        require(stepped[0] == stepped[1], f"inf in pass {at}: rank 0 {words[0]}, rank 1 {words[1]}")
    return "no rank steps alone"
