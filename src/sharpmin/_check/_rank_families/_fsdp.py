"""FSDP2: every rank holds a part of each weight, and the norm of e is that of the whole gradient."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .._case import family, require
from .._rank_trial import LR, RankNet, RankTrial
from .._trial import CLOSE, backward, flat, near, show
from ._ddp import require_weights


def mesh(world: int) -> Any:
    """All ranks in a row."""
    from torch.distributed.device_mesh import init_device_mesh  # noqa: PLC0415  # takes half a second

    return init_device_mesh("cpu", (world,))


def sharded(t: RankTrial, model: nn.Module) -> nn.Module:
    """The model under `fully_shard`, layer by layer."""
    from torch.distributed.fsdp import fully_shard  # noqa: PLC0415

    row = mesh(t.world)
    for layer in model.children():
        if any(True for _ in layer.parameters()):
            fully_shard(layer, mesh=row)
    fully_shard(model, mesh=row)
    return model


def whole(p: Tensor) -> Tensor:
    """The weight, from the parts of all ranks."""
    full: Tensor = p.full_tensor() if hasattr(p, "full_tensor") else p
    return full.detach().clone()


def part(p: Tensor) -> Tensor:
    """What this rank holds of it, sharing its memory."""
    held: Tensor = p.to_local() if hasattr(p, "to_local") else p
    return held.detach()


class Split:
    """sum(c w^2) / 2 over weights that are split entry by entry over the ranks, and over plain ones that every rank has.

    Attributes:
        parameters: the split one, then the plain ones.
        visited: the whole weights at every pass.
    """

    def __init__(self, world: int, split: tuple[list[float], list[float]], *plain: tuple[list[float], list[float]]):
        from torch.distributed.tensor import Shard, distribute_tensor  # noqa: PLC0415

        row = mesh(world)
        values, curvatures = ([torch.tensor(pair[i], dtype=torch.float64) for pair in (split, *plain)] for i in (0, 1))
        first = distribute_tensor(values[0], row, [Shard(0)])
        self.parameters = [nn.Parameter(first), *map(nn.Parameter, values[1:])]
        self.curvatures = [part(distribute_tensor(curvatures[0], row, [Shard(0)])), *curvatures[1:]]
        self.visited: list[Tensor] = []

    def __call__(self, _: int) -> Tensor:
        self.visited.append(self.now())
        held: list[Any] = [p.to_local() if hasattr(p, "to_local") else p for p in self.parameters]
        losses = [(c * w**2).sum() / 2 for c, w in zip(self.curvatures, held, strict=True)]
        backward(torch.stack(losses).sum())
        shared = losses[0].detach().clone()
        dist.all_reduce(shared)
        return torch.stack([shared, *(loss.detach() for loss in losses[1:])]).sum()

    def now(self) -> Tensor:
        """The weights in a row."""
        return torch.cat([whole(p) for p in self.parameters])


def _require_step(t: RankTrial, f: Split, second: tuple[float, ...], end: tuple[float, ...]) -> str:
    now, place = f.now(), f.visited[-1]
    seen = t.told(f"second pass at {show(place)}, w' = {show(now)}")
    require(all(t.gathered(near(place, second, CLOSE) and near(now, end, CLOSE))), seen)
    return seen


@family(
    "fsdp-golden-step",
    "Sharded weights: one norm over the parts of all ranks",
    right="second pass at (3.3, 1.4), w' = (2.67, 0.44)",
    fix="add the squares of the parts over the ranks (all-reduce) before the root",
    faults=(6, 7),
    ranks=True,
)
def golden(t: RankTrial) -> str:
    """w = (3, 1), one entry a rank, g = (3, 4): e = (0.3, 0.4); a norm per part gives (0.5, 0.5)."""
    f = Split(t.world, ([3.0, 1.0], [1.0, 4.0]))
    t.step(t.make(flat(f.parameters), lr=LR), f)
    return _require_step(t, f, (3.3, 1.4), (2.67, 0.44))


@family(
    "fsdp-plain-part",
    "Sharded and plain weights in one model: plain ones count once",
    right="second pass at (3.3, 1.4, 13.2), e = 0.1 g",
    fix="reduce the sums of the sharded gradients only, then add those of the plain ones",
    faults=(7,),
    ranks=True,
)
def plain_part(t: RankTrial) -> str:
    """g = (3, 4) split and 12 plain: the norm is 13, with rho 1.3 e = (0.3, 0.4, 1.2)."""
    f = Split(t.world, ([3.0, 1.0], [1.0, 4.0]), ([12.0], [1.0]))
    t.step(t.make(flat(f.parameters), 1.3, lr=LR), f)
    return _require_step(t, f, (3.3, 1.4, 13.2), (2.67, 0.44, 10.68))


@family(
    "fsdp-one-process",
    "FSDP2 is one process with the batch of all ranks",
    right="the weights of one process after 5 steps, off by at most 1e-6 (float32: after 2, by 1e-5)",
    fix="one norm over all parts of all gradients; work on the local parts in place",
    faults=(6, 7),
    ranks=True,
)
def one_process(t: RankTrial) -> str:
    """A network under fully_shard, in float64, then in float32; the steps of one process are done by hand in float64."""
    for dtype, steps, tolerance in ((torch.float64, 5, CLOSE), (torch.float32, 2, 1e-5)):
        right = RankNet(t.world).by_hand(steps, 0.2, LR)
        net = RankNet(t.world, dtype)
        model = sharded(t, net.model)
        opt = t.make(list(model.parameters()), 0.2, lr=LR, model=model)
        for _ in range(steps):
            t.step(opt, lambda _, net=net, model=model: net.loss(model, slice(t.rank, None, t.world)))  # type: ignore[misc]
        seen = require_weights(t, [whole(p) for p in model.parameters()], right, tolerance)
    return seen


@family(
    "fsdp-accumulation",
    "FSDP2 with accumulation: gradients sync in the last micro-batch",
    right="the weights of one process, off by at most 1e-6 after 3 steps",
    fix="perturb once a step, along the gradients that the last micro-batch leaves, and run all of them again at w + e",
    faults=(26,),
    ranks=True,
)
def accumulation(t: RankTrial) -> str:
    """Two micro-batches a rank, set_requires_gradient_sync(False) for the first, in both passes."""
    right = RankNet(2 * t.world).by_hand(3, 0.2, LR)
    net = RankNet(2 * t.world)
    model: Any = sharded(t, net.model)
    opt = t.make(list(model.parameters()), 0.2, lr=LR, model=model)

    def run(_: int) -> Tensor:
        model.set_requires_gradient_sync(False)
        total = net.loss(model, slice(t.rank, None, 2 * t.world), 0.5)
        model.set_requires_gradient_sync(True)
        return total + net.loss(model, slice(t.rank + t.world, None, 2 * t.world), 0.5)

    for _ in range(3):
        t.step(opt, run)
    return require_weights(t, [whole(p) for p in model.parameters()], right)
