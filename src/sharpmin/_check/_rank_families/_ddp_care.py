"""DistributedDataParallel: replicas that stay equal, whatever one rank sees, and buffers that move once a step."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from .._case import NotOffered, family, require
from .._rank_trial import LR, RHO, START, Parabola, RankTrial, end_per_rank, own, parallel, unreduced
from .._trial import CLOSE, backward, copies, difference, near, same, show


def require_replicas(t: RankTrial, *, apart: bool = False, steps: int = 15) -> str:
    """Train a small network in bfloat16 on other data on every rank, and compare the weights bit for bit."""
    net = nn.Sequential(nn.Linear(8, 36), nn.Tanh(), nn.Dropout(0.2), nn.Linear(36, 8)).to(torch.bfloat16)
    ddp = parallel(net)
    opt = t.make(list(ddp.parameters()), lr=0.05, options={"momentum": 0.9}, model=ddp)
    torch.default_generator.manual_seed(t.rank)

    for _ in range(steps):
        x, y = torch.randn(8, 8).to(torch.bfloat16), torch.randint(8, (8,))

        def run(_: int, x: Tensor = x, y: Tensor = y) -> Tensor:
            return backward(nn.functional.cross_entropy(ddp(x).float(), y))

        t.step(opt, unreduced(ddp, run) if apart and t.owns_first_pass else run)
    return _require_equal(t, copies(net.parameters()), f"after {steps} steps")


def _require_equal(t: RankTrial, weights: list[Tensor], when: str) -> str:
    held = t.gathered(weights)
    worst = max(difference(held[0], other) for other in held[1:])
    require(all(same(held[0], other) for other in held), f"weights of two ranks differ by {worst} {when}")
    return "equal bit for bit"


@family(
    "ddp-replicas",
    "DDP: the replicas stay equal",
    right="equal weights on all ranks after 15 steps in bfloat16",
    fix="let nothing that differs from rank to rank (own gradient, loss, random numbers) enter e or the step",
    faults=(8,),
    ranks=True,
)
def replicas(t: RankTrial) -> str:
    """Other data and other random numbers on every rank, with momentum and dropout."""
    return require_replicas(t)


@family(
    "ddp-restore",
    "DDP: every rank gets its weights back bit for bit",
    right="a drift of exactly 0 on every rank",
    fix="restore by an in-place copy from a backup, never by subtraction",
    faults=(8, 9),
    ranks=True,
)
def restore(t: RankTrial) -> str:
    """4 steps at lr = 0 with 900 weights."""
    for dtype in (torch.float32, torch.bfloat16):
        net = nn.Sequential(nn.Linear(8, 52), nn.Tanh(), nn.Linear(52, 8)).to(dtype)
        ddp = parallel(net)
        opt = t.make(list(ddp.parameters()), lr=0.0, model=ddp)
        was = copies(net.parameters())
        x = torch.randn(8, 8, generator=torch.Generator().manual_seed(t.rank)).to(dtype)
        for _ in range(4):
            t.step(opt, lambda _, x=x, ddp=ddp: backward(ddp(x).float().square().mean()))  # type: ignore[misc]
        now = copies(net.parameters())
        seen = t.told(f"{str(dtype).removeprefix('torch.')}: the weights differ by {difference(was, now)}")
        require(all(t.gathered(same(was, now))), seen)
    return "bit for bit"


@family(
    "ddp-nonfinite",
    "DDP: an inf on one rank makes no rank step, or skip, alone",
    right="the same weights on every rank, after that step and after the next",
    fix="decide from reduced gradients or a reduced flag whether to step, never from the loss or gradient of one rank",
    faults=(12,),
    ranks=True,
)
def nonfinite(t: RankTrial) -> str:
    """The loss of the last rank is inf in pass 1, then in pass 2; whether all step or none is not asked here."""
    for at in (1, 2):
        model = Parabola()
        ddp = parallel(model)
        opt = t.make(list(ddp.parameters()), RHO, lr=LR, model=ddp)
        ends = []
        for spoilt in (True, False):

            def run(k: int, at: int = at if spoilt else 0, ddp: nn.Module = ddp) -> Tensor:
                bad = k == at and t.rank == t.world - 1
                return backward(ddp(own(t.rank)) * (float("inf") if bad else 1.0))

            t.step(opt, run)
            ends.append(model.x.detach().clone())
        seen = t.told(f"inf in pass {at}: x = {show(ends[0])}, then {show(ends[1])}")
        held = t.gathered(ends)
        require(all(same([_plain(x) for x in held[0]], [_plain(x) for x in other]) for other in held), seen)
    return "no rank steps alone"


def _plain(x: Tensor) -> Tensor:
    """nan has many bit patterns."""
    return torch.nan_to_num(x, 1e300)


@family(
    "ddp-batchnorm",
    "DDP: BatchNorm statistics move once a step",
    right="the statistics of one pass a step on every rank, mean 0.38 on rank 0, 2 batches",
    fix="put the buffers back after the second pass (ours: pass model=)",
    faults=(14,),
    ranks=True,
)
def batchnorm(t: RankTrial) -> str:
    """Means 2 + 4 rank in two steps; before every pass DDP sends the buffers of rank 0 to all: 0.9 * 0.2 + 0.1 (2 + 4 rank)."""
    t.need_model()
    bn = nn.BatchNorm1d(1)
    ddp = parallel(bn)
    opt = t.make(list(ddp.parameters()), model=ddp)
    rows = torch.tensor([[1.0], [3.0]]) + 4 * t.rank
    for _ in range(2):
        t.step(opt, lambda _: backward(ddp(rows).square().sum()))
    mean, count = bn.running_mean, bn.num_batches_tracked
    if mean is None or count is None:
        raise NotOffered("the BatchNorm of this torch has no statistics")
    seen = t.told(f"mean {show(mean)}, {show(count)} batches")
    require(all(t.gathered(near(mean, (0.38 + 0.4 * t.rank,), CLOSE) and int(count) == 2)), seen)
    return seen


@family(
    "ddp-loss-scaling",
    "DDP: one rank overflows under a GradScaler, and all skip",
    right="x' = 0.5 and scale 512 on every rank, then x' = 0.38",
    fix="one reduction of the scaler's overflow flag where gradients are not reduced; skip on every rank",
    faults=(12, 13),
    ranks=True,
)
def loss_scaling(t: RankTrial) -> str:
    """An inf in the loss of the last rank, in pass 1, then in pass 2; where it is offered, with a perturbation per rank too."""
    seen = _overflow(t, 0.38)
    if t.subject.per_rank is not None:
        _overflow(t.per_rank(), end_per_rank(t.world))
    return seen


def _overflow(t: RankTrial, end: float) -> str:
    for at in (1, 2):
        model = Parabola(torch.float32)
        ddp = parallel(model)
        opt, scaler = t.make(list(ddp.parameters()), RHO, lr=LR, model=ddp), GradScaler("cpu", init_scale=1024.0)
        if not callable(getattr(opt, "perturbed", None)):
            raise NotOffered("has no perturbed(scaler), which puts both passes under one GradScaler")
        ends = []
        for spoilt in (at, 0):
            bad = [float("inf") if k == spoilt and t.rank == t.world - 1 else 1.0 for k in (1, 2)]
            opt.zero_grad()
            with opt.clean():
                backward(scaler.scale(ddp(own(t.rank)) * bad[0]))
            with opt.perturbed(scaler):
                backward(scaler.scale(ddp(own(t.rank)) * bad[1]))
            scaler.step(opt)
            scaler.update()
            ends.append((model.x.item(), scaler.get_scale()))
        seen = t.told(f"inf in pass {at}: " + ", then ".join(f"x' = {x:.6g} at scale {scale:g}" for x, scale in ends))
        right = ends[0] == (START, 512.0) and abs(ends[1][0] - end) <= CLOSE and ends[1][1] == 512.0
        require(all(t.gathered(right)), seen, f"x' = 0.5, then {end:.6g}, both at scale 512")
    return seen
