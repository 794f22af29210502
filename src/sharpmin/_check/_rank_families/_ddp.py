"""DistributedDataParallel: one perturbation for all ranks, along the reduced gradient, is SAM on the batch of all ranks."""

from __future__ import annotations

import torch
from torch import Tensor

from .._case import family, require
from .._rank_trial import LR, RHO, START, Parabola, RankNet, RankTrial, own, parallel, require_ends
from .._trial import CLOSE, backward, copies, difference, near, show


@family(
    "ddp-golden-step",
    "DDP: all ranks perturb along the reduced gradient",
    right="second pass at 0.6, x' = 0.38 on every rank",
    fix="let the last backward of the first pass be reduced, and take e from the gradients after that",
    faults=(8, 27),
    ranks=True,
)
def golden(t: RankTrial) -> str:
    """1.5 (x - 1)^2 on rank 0 and 0.5 (x + 3)^2 on rank 1, x = 0.5: slopes -1.5 and 3.5, mean 1; own gradients give 0.41."""
    model = Parabola()
    ddp = parallel(model)
    opt = t.make(list(ddp.parameters()), RHO, lr=LR, model=ddp)
    t.step(opt, lambda _: backward(ddp(own(t.rank))))
    return require_ends(t, model, [0.6] * t.world, 0.38)


@family(
    "ddp-bucket-view",
    "DDP with gradient_as_bucket_view=True makes the same steps",
    right="x = 0.38 after one step, 0.284 after two",
    fix="keep no reference to p.grad beyond its pass: DDP writes the next gradient into the same memory",
    faults=(8, 4),
    ranks=True,
)
def bucket_view(t: RankTrial) -> str:
    """The slope of the mean is 2 x: 0.38 - 0.2 (0.38 + 0.1) = 0.284."""
    model = Parabola()
    ddp = parallel(model, gradient_as_bucket_view=True)
    opt = t.make(list(ddp.parameters()), RHO, lr=LR, model=ddp)
    ends = []
    for _ in range(2):
        t.step(opt, lambda _: backward(ddp(own(t.rank))))
        ends.append(model.x.detach().clone())
    seen = t.told(f"x = {show(ends[0])}, then {show(ends[1])}")
    require(all(t.gathered(near(torch.cat(ends), (0.38, 0.284), CLOSE))), seen)
    return seen


@family(
    "ddp-one-process",
    "DDP is one process with the batch of all ranks",
    right="the weights of one process, off by at most 1e-6 after 5 steps",
    fix="one perturbation for all ranks: its direction and its norm from the reduced gradients",
    faults=(8,),
    ranks=True,
)
def one_process(t: RankTrial) -> str:
    """A network in float64; the steps of one process are done by hand."""
    right = RankNet(t.world).by_hand(5, 0.2, LR)
    net = RankNet(t.world)
    ddp = parallel(net.model)
    opt = t.make(list(ddp.parameters()), 0.2, lr=LR, model=ddp)
    for _ in range(5):
        t.step(opt, lambda _: net.loss(ddp, slice(t.rank, None, t.world)))
    return require_weights(t, copies(ddp.parameters()), right)


def require_weights(t: RankTrial, weights: list[Tensor], right: list[Tensor], tolerance: float = CLOSE) -> str:
    """Go on only if every rank has these weights."""
    off = difference(weights, right)
    seen = t.told(f"{str(weights[0].dtype).removeprefix('torch.')}: off by {off}")
    require(all(t.gathered(float(off) <= tolerance)), seen)
    return seen


@family(
    "ddp-accumulation",
    "DDP with accumulation: no_sync() on all but the last micro-batch",
    right="second pass at 0.6, x' = 0.3825 on every rank",
    fix="perturb once a step, along the sum of all micro-batches of all ranks, and run all of them again at w + e",
    faults=(26, 27),
    ranks=True,
)
def accumulation(t: RankTrial) -> str:
    """Slopes 2, -3 on rank 0 and 6, -1 on rank 1 at 0.5: mean 1; 2.2, -2.9, 6.3, -0.9 at 0.6: mean 1.175."""
    model = Parabola()
    ddp = parallel(model)
    opt = t.make(list(ddp.parameters()), RHO, lr=LR, model=ddp)
    first, last = _micro(t.rank)

    def run(_: int) -> Tensor:
        with ddp.no_sync():
            total = backward(ddp(first) / 2)
        return total + backward(ddp(last) / 2).detach()

    t.step(opt, run)
    return require_ends(t, model, [0.6] * t.world, 0.3825)


def _micro(rank: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """(curvature, center) of the two micro-batches of a rank; further ranks have the mean of the four."""
    mean = (7 / 4, START - 4 / 7)
    known = (((2.0, -0.5), (1.0, 3.5)), ((3.0, -1.5), (1.0, 1.5)))
    return known[rank] if rank < len(known) else (mean, mean)
