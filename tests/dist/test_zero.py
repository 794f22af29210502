"""ZeroRedundancyOptimizer as the base, on two gloo ranks, each with a part of the state; SAM brings it together."""

import copy

import pytest
import torch
from tests.dist.ranks import on_ranks
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import sharpmin as sm

SGD = {"lr": 0.1, "momentum": 0.9}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 1)).double()


def batches(steps):
    return torch.randn(4, 8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))[steps]


def train(model, opt, rows, rank=0, world=1):
    for batch in rows:
        own = batch[rank::world]

        def closure(own=own):
            opt.zero_grad()
            loss = nn.functional.mse_loss(model(own[:, :4]), own[:, 4:])
            loss.backward()
            return loss

        opt.step(closure)


def work(rank):
    from torch.distributed.optim import ZeroRedundancyOptimizer  # which warns of torch.jit

    net = network()
    model = DistributedDataParallel(net)
    opt = sm.SAM(ZeroRedundancyOptimizer(model.parameters(), torch.optim.SGD, **SGD), rho=0.1, model=model)
    train(model, opt, batches(slice(0, 2)), rank, 2)
    opt.consolidate_state_dict(to=0)
    state = copy.deepcopy(opt.state_dict()) if rank == 0 else None
    half = [p.detach().clone() for p in net.parameters()]
    train(model, opt, batches(slice(2, 4)), rank, 2)
    return {"state": state, "half": half, "end": [p.detach() for p in net.parameters()], "shard": len(opt.base.optim.state)}


@pytest.fixture(scope="module")
def ranks():
    return on_ranks(work, 2)


def test_it_trains_as_one_process(ranks):
    net = network()
    train(net, sm.SAM(torch.optim.SGD(net.parameters(), **SGD), rho=0.1, model=net), batches(slice(0, 4)))
    for a, b, c in zip(ranks[0]["end"], ranks[1]["end"], net.parameters(), strict=True):
        assert torch.equal(a, b)
        torch.testing.assert_close(a, c.detach(), rtol=0, atol=1e-12)
    assert sorted(rank["shard"] for rank in ranks)[1] < 6  # neither has the state of all


def test_its_checkpoint_goes_on_without_shards(ranks):
    """As Lightning saves it: `consolidate_state_dict()`, then `state_dict()` on the first rank."""
    net = network()
    with torch.no_grad():
        for p, was in zip(net.parameters(), ranks[0]["half"], strict=True):
            p.copy_(was)
    opt = sm.SAM(torch.optim.SGD(net.parameters(), **SGD), rho=0.3, model=net)
    opt.load_state_dict(ranks[0]["state"])
    assert (opt.rho, opt.param_groups[0]["sharpmin_step"]) == (0.1, 2)
    train(net, opt, batches(slice(2, 4)))
    for a, c in zip(ranks[0]["end"], net.parameters(), strict=True):
        torch.testing.assert_close(a, c.detach(), rtol=0, atol=1e-12)


def test_without_shards_there_is_nothing_to_consolidate():
    assert not hasattr(sm.SAM(torch.optim.SGD(network().parameters(), lr=0.1)), "consolidate_state_dict")
