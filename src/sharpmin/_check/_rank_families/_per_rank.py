"""DistributedDataParallel with a perturbation per rank: every rank perturbs along its own gradient; all take one step."""

from __future__ import annotations

import torch

from .._case import family
from .._rank_trial import LR, RHO, Parabola, RankTrial, end_per_rank, own, parallel, require_ends, unreduced
from .._trial import backward
from ._ddp_care import require_replicas


@family(
    "rank-golden-step",
    "A perturbation per rank: along its own gradient; the step along the reduced one",
    right="second pass at 0.4 on rank 0 and 0.6 on rank 1, x' = 0.41",
    fix="first pass under no_sync(), forward and backward both; the second one reduced (ours: scope='rank')",
    faults=(27,),
    ranks=True,
)
def golden(t: RankTrial) -> str:
    """Slopes -1.5 and 3.5: up to 0.4 and 0.6, slopes -1.8 and 3.6 there, mean 0.9."""
    t = t.per_rank()
    model = Parabola()
    ddp = parallel(model)
    opt = t.make(list(ddp.parameters()), RHO, lr=LR, model=ddp)

    def run(_: int) -> torch.Tensor:
        return backward(ddp(own(t.rank)))

    t.step(opt, unreduced(ddp, run) if t.owns_first_pass else run)
    places = [0.4, *[0.6] * (t.world - 1)]
    return require_ends(t, model, places, end_per_rank(t.world))


@family(
    "rank-replicas",
    "A perturbation per rank leaves the replicas equal",
    right="equal weights on all ranks after 15 steps in bfloat16",
    fix="restore by a copy: (w + e) - e rounds differently on every rank",
    faults=(8, 9),
    ranks=True,
)
def replicas(t: RankTrial) -> str:
    """Every rank adds another e, so whatever is left of it differs."""
    return require_replicas(t.per_rank(), apart=True)
