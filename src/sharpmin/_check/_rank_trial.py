"""One optimizer under test on one of several ranks, and the functions that the ranks minimize together.

A family must end alike on every rank: it gathers all observations before it judges, so that no rank waits for one that has
ended.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ._case import NotOffered, require
from ._doors import Run
from ._trial import Trial, backward, near, show

RHO, LR, START = 0.1, 0.1, 0.5
OWN = ((3.0, 1.0), (1.0, -3.0))  # 1.5 (x - 1)^2 on rank 0 and 0.5 (x + 3)^2 on rank 1, as (curvature, center)
MEAN = (2.0, 0.0)  # of the two: for every further rank


@dataclass(frozen=True)
class RankTrial(Trial):
    """What a family for several processes gets, on each of them.

    Attributes:
        rank: the number of this process.
        world: how many there are.
    """

    rank: int
    world: int

    def gathered(self, value: Any) -> list[Any]:
        """The values of all ranks, in order."""
        values = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def told(self, text: str) -> str:
        """One sentence for all ranks, or one for each if they differ."""
        return by_rank(self.gathered(text))

    def per_rank(self) -> RankTrial:
        """The same with a perturbation per rank: by an argument `scope`, or since the first pass is the caller's."""
        if self.subject.per_rank is not None:
            return replace(self, subject=replace(self.subject, build=self.subject.per_rank))
        if self.ours or not self.owns_first_pass:
            raise NotOffered('has no argument `scope` that could be "rank", and its closure does not know which pass it is in')
        return self

    @property
    def owns_first_pass(self) -> bool:
        """Whether the caller does the first pass, and so chooses whether its gradients are reduced."""
        return self.door in ("two-step", "closure-after-backward")


def by_rank(texts: Sequence[str]) -> str:
    """The texts of the ranks, once if they are equal.

    >>> by_rank(["x = 1", "x = 1"]), by_rank(["x = 1", "x = 2"])
    ('x = 1', 'rank 0: x = 1; rank 1: x = 2')
    """
    if len(set(texts)) == 1:
        return texts[0]
    return "; ".join(f"rank {rank}: {text}" for rank, text in enumerate(texts))


class Parabola(nn.Module):
    """curvature / 2 (x - center)^2 from x = 0.5, as a function of a batch (curvature, center); notes where it is evaluated."""

    def __init__(self, dtype: torch.dtype = torch.float64):
        super().__init__()
        self.x = nn.Parameter(torch.tensor([START], dtype=dtype))
        self.visited: list[Tensor] = []

    def forward(self, batch: tuple[float, float]) -> Tensor:
        """The loss."""
        self.visited.append(self.x.detach().clone())
        return (0.5 * batch[0] * (self.x - batch[1]) ** 2).sum()


def own(rank: int) -> tuple[float, float]:
    """The batch of a rank; the mean over ranks is x^2 + 3 for any number of them, so its slope is 2 x."""
    return OWN[rank] if rank < len(OWN) else MEAN


def end_per_rank(world: int) -> float:
    """x' where every rank climbs along its own slope: slopes -1.8 at 0.4, 3.6 at 0.6, and 1.2 at 0.6 for further ranks.

    >>> end_per_rank(2)
    0.41
    """
    return START - LR * (-1.8 + 3.6 + 1.2 * (world - 2)) / world


def parallel(module: nn.Module, **options: Any) -> DistributedDataParallel:
    """The module on every rank, gradients reduced."""
    return DistributedDataParallel(module, **options)


def unreduced(model: DistributedDataParallel, run: Run) -> Run:
    """`run` with the first pass under `no_sync()`, forward and backward both."""

    def apart(k: int) -> Any:
        if k > 1:
            return run(k)
        with model.no_sync():
            return run(k)

    return apart


class RankNet:
    """A small network and 4 rows of data a rank; the mean over the ranks is that over all rows."""

    def __init__(self, world: int, dtype: torch.dtype = torch.float64):
        generator = torch.Generator().manual_seed(3)
        self.model = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 5), nn.Tanh(), nn.Linear(5, 3)).to(dtype)
        with torch.no_grad():
            for p in self.model.parameters():
                p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64) * 0.4)
        self.x = torch.randn(4 * world, 6, generator=generator, dtype=torch.float64).to(dtype)
        self.y = torch.randint(3, (4 * world,), generator=generator)

    def loss(self, model: Callable[[Tensor], Tensor], rows: slice, share: float = 1.0) -> Tensor:
        """Backward of the mean loss over these rows, times `share`."""
        return backward(nn.functional.cross_entropy(model(self.x[rows]), self.y[rows]) * share)

    def by_hand(self, steps: int, rho: float, lr: float) -> list[Tensor]:
        """The weights after SGD with SAM on all rows in one process: w - lr grad f(w + rho g / ||g||)."""
        weights = list(self.model.parameters())

        def gradient() -> list[Tensor]:
            loss = nn.functional.cross_entropy(self.model(self.x), self.y)
            return list(torch.autograd.grad(loss, weights))

        for _ in range(steps):
            was = [p.detach().clone() for p in weights]
            first = gradient()
            norm = torch.stack([g.square().sum() for g in first]).sum().sqrt()
            with torch.no_grad():
                for p, g in zip(weights, first, strict=True):
                    p.add_(rho * g / norm)
            second = gradient()
            with torch.no_grad():
                for p, w, g in zip(weights, was, second, strict=True):
                    p.copy_(w - lr * g)
        return [p.detach().clone() for p in weights]


def require_ends(t: RankTrial, model: Parabola, second: Sequence[float], right: float, tolerance: float = 1e-6) -> str:
    """Go on only if one step of every rank had its second pass there and ended at `right`."""
    place = show(model.visited[-1])
    seen = t.told(f"second pass at {place}, x' = {show(model.x)}")
    ok = near(model.visited[-1], (second[t.rank],), tolerance) and near(model.x, (right,), tolerance)
    require(all(t.gathered(ok)), seen)
    return seen
