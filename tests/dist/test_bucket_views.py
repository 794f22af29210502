"""`gradient_as_bucket_view=True`: DistributedDataParallel owns the memory of the gradients, and overwrites the first ones."""

import pytest
import torch
from tests.dist.ranks import on_ranks
from torch import nn
from torch.nn.parallel import DistributedDataParallel as DDP

import sharpmin as sm

CASES = {
    "mix": {"descent": sm.Mix(0.3)},
    "clipped": {"descent": sm.ClippedDifference(0.1)},
    "telemetry": {"telemetry": True},
    "rho = 0": {"rho": 0.0},
    "rank": {"scope": "rank"},
    "microbatch": {"scope": "microbatch"},
    "others": {"others": True},
}


class Net(nn.Module):
    def __init__(self, one):
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(4, 3, bias=not one).double()
        self.rest = nn.Identity() if one else nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.3)).double()

    def forward(self, x):
        return self.rest(torch.tanh(self.head(x)))


def train(rank, view, one, rho=0.3, others=False, **options):
    """One run; with `one` the model is a single parameter, whose gradient is a whole bucket."""
    net = DDP(Net(one), gradient_as_bucket_view=view)
    parameters = [net.module.head.weight] if others else list(net.parameters())
    opt = sm.SAM(torch.optim.SGD(parameters, lr=0.2, momentum=0.9), rho=rho, model=net, **options)
    probe = sm.watch(opt, every=1, block=2) if "scope" not in options else None
    torch.manual_seed(7 + rank)
    generator = torch.Generator().manual_seed(rank)
    told = []
    for _ in range(4):
        opt.zero_grad()
        net.zero_grad()
        for last in (False, True) if options.get("scope") == "microbatch" else (True,):
            x, y = torch.randn(8, 4, generator=generator).double(), torch.randint(3, (8,), generator=generator)
            with opt.clean():
                nn.functional.cross_entropy(net(x), y).backward()
            if last:
                with opt.perturbed():
                    nn.functional.cross_entropy(net(x), y).backward()
            else:
                with net.no_sync(), opt.perturbed():
                    nn.functional.cross_entropy(net(x), y).backward()
        opt.step()
        told.append((opt.last, [p.grad.clone() for p in net.parameters()]))
    rows = [] if probe is None else [[row[k] for k in ("gg", "dg", "dd")] for row in probe.log.steps]
    return [p.detach().clone() for p in net.parameters()], told, rows


def both(rank, cases):
    return {
        (case, one): [train(rank, view, one, **CASES[case]) for view in (False, True)]
        for case in cases
        for one in (False, True)
        if not (one and case == "others")
    }


@pytest.mark.filterwarnings("ignore:Grad strides do not match bucket view strides")
@pytest.mark.parametrize("world", [1, 2])
def test_equal_to_the_run_without_views(world):
    for found in on_ranks(both, world, list(CASES)):
        for (case, one), (without, view) in found.items():
            assert all(map(torch.equal, without[0], view[0])), (case, one)
            for (told, grads), (other, theirs) in zip(without[1], view[1], strict=True):
                assert told == other, (case, one)
                assert all(map(torch.equal, grads, theirs)), (case, one)
            assert without[2] == view[2], (case, one)
