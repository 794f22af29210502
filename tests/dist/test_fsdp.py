"""Sharded parameters (FSDP2) on two real ranks: one norm over all shards, and the run of one process."""

import pytest
import torch
import torch.distributed as dist
from tests.dist.ranks import on_ranks
from torch import nn

import sharpmin as sm


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def data():
    rng = torch.Generator().manual_seed(1)
    return torch.randn(12, 6, generator=rng).double(), torch.randint(3, (12,), generator=rng)


PARTS = {
    "L2": lambda: {"geometry": sm.L2()},
    "LInf": lambda: {"geometry": sm.LInf()},
    "Elementwise": lambda: {"geometry": sm.Elementwise(0.1)},
    "clipped": lambda: {"descent": sm.ClippedDifference(0.3)},
    "mix": lambda: {"descent": sm.Mix(0.4)},
    "telemetry": lambda: {"telemetry": True},
    "momentum": lambda: {"ascent": sm.Momentum()},
}
STEPS = 5
REPORTED = ("rho", "radius", "dual_norm", "passes", "gain", "cosine", "amplification", "curvature", "smoothness")


def train(model, part, steps, x, y):
    opt = sm.SAM(torch.optim.Adam(model.parameters(), lr=0.05), rho=0.2, **PARTS[part]())
    for _ in range(steps):
        opt.zero_grad()
        if opt.ascent.needs_clean:
            nn.functional.cross_entropy(model(x), y).backward()
        with opt.perturbed():
            nn.functional.cross_entropy(model(x), y).backward()
        opt.step()
    return [getattr(opt.last, name) for name in REPORTED]


def sharded(rank, part, whole_last):
    """FSDP2 on this rank's half of the batch; with `whole_last` the last layer stays a plain tensor."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model, (x, y) = net(), data()
    mesh = init_device_mesh("cpu", (2,))
    for layer in (model[0], model[2]) if whole_last else (model[0], model[2], model[4]):
        fully_shard(layer, mesh=mesh)
    if not whole_last:
        fully_shard(model, mesh=mesh)
    storage = [p.to_local().data_ptr() for p in model.parameters() if hasattr(p, "to_local")]
    rows = slice(None) if whole_last else slice(rank, None, 2)  # a plain layer needs the whole batch for its gradient
    report = train(model, part, STEPS, x[rows], y[rows])
    same = storage == [p.to_local().data_ptr() for p in model.parameters() if hasattr(p, "to_local")]
    return [p.full_tensor() if hasattr(p, "full_tensor") else p.detach() for p in model.parameters()], report, same


@pytest.mark.parametrize("whole_last", [False, True])
@pytest.mark.parametrize("part", PARTS)
def test_two_ranks_are_one_process(ranks, part, whole_last):
    model = net()
    report = train(model, part, STEPS, *data())
    for weights, found, same in (rank[part, whole_last] for rank in ranks):
        for w, p in zip(weights, model.parameters(), strict=True):
            torch.testing.assert_close(w, p.detach(), rtol=1e-9, atol=1e-9)
        assert found == [None if v is None else pytest.approx(v, rel=1e-6) for v in report]
        assert same


def golden(rank):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (2,))
    w = nn.Parameter(distribute_tensor(torch.tensor([3.0, 1.0], dtype=torch.float64), mesh, [Shard(0)]))
    opt = sm.SAM(torch.optim.SGD([w], lr=0.1), rho=0.5)
    w.grad = distribute_tensor(torch.tensor([3.0, 4.0], dtype=torch.float64), mesh, [Shard(0)])
    with opt.perturbed():
        inside = w.full_tensor().tolist()
        w.grad = distribute_tensor(torch.tensor([3.3, 5.6], dtype=torch.float64), mesh, [Shard(0)])
    back = w.full_tensor().tolist()
    opt.step()
    bad = []
    for spoilt in (0, 1):  # one rank's shard of the first, then of the second gradient
        w.grad = distribute_tensor(torch.tensor([3.0, 4.0], dtype=torch.float64), mesh, [Shard(0)])
        if spoilt == 0 and rank == 1:
            w.grad.to_local()[0] = float("inf")
        with opt.perturbed():
            w.grad = distribute_tensor(torch.tensor([1.0, 1.0], dtype=torch.float64), mesh, [Shard(0)])
            if spoilt == 1 and rank == 1:
                w.grad.to_local()[0] = float("inf")
        opt.step()
        bad.append(opt.last.stepped)
    dist.barrier()
    return inside, back, w.full_tensor().tolist(), bad


def test_the_golden_case_one_entry_a_rank(ranks):
    for inside, back, after, bad in (rank["golden"] for rank in ranks):
        assert inside == pytest.approx([3.3, 1.4], abs=1e-12)
        assert back == [3.0, 1.0]
        assert after == pytest.approx([2.67, 0.44], abs=1e-12)
        assert bad == [False, False]


def refusals(rank):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model = net()
    fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
    said = []
    for options in ({"geometry": sm.Layerwise()}, {"ascent": sm.Ema()}, {"scope": "rank", "model": model}):
        try:
            sm.SAM(torch.optim.SGD(model.parameters(), lr=0.1), **options)
            said.append(None)
        except ValueError as error:
            said.append(str(error))
    from torch.distributed.fsdp import FullyShardedDataParallel

    for whole in (False, True):
        old = FullyShardedDataParallel(net(), device_id=torch.device("cpu"), use_orig_params=whole)
        try:
            sm.SAM(torch.optim.SGD(old.parameters(), lr=0.1))
            said.append(None)
        except ValueError as error:
            said.append(str(error))
    return said


def test_what_shards_cannot_do_is_refused(ranks):
    layerwise, ema, rank, *old = ranks[0]["refusals"]
    assert "Layerwise" in layerwise
    assert "Ema" in ema
    assert "microbatch" in rank
    assert "cannot hold one rank's perturbation of the whole" in rank
    assert len(old) == 2
    assert all("fully_shard" in said for said in old)


def unsynced(rank, momentum):
    """The passes that sync, then what was said and whether weights moved; and that the next step works."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    found = {}
    for syncs in ((False, True), (True, False), (True, True)):
        model, (x, y) = net(), data()
        mesh = init_device_mesh("cpu", (2,))
        for layer in (model[0], model[2], model[4], model):
            fully_shard(layer, mesh=mesh)
        base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        opt = sm.SAM(base, rho=0.2, ascent=sm.Momentum() if momentum else sm.Gradient())

        def passed(sync, model=model, x=x, y=y):
            model.set_requires_gradient_sync(sync)
            nn.functional.cross_entropy(model(x[rank::2]), y[rank::2]).backward()

        def step(first, second, opt=opt, passed=passed):
            opt.zero_grad()
            if not momentum:
                passed(first)
            with opt.perturbed():
                passed(second)
            opt.step()

        step(True, True)
        was, said = [p.to_local().clone() for p in model.parameters()], "nothing"
        try:
            step(*syncs)
        except sm.PhaseError as error:
            said = str(error).split(" pass ")[0]
        found[syncs] = said, all(torch.equal(p.to_local(), w) for p, w in zip(model.parameters(), was, strict=True))
        step(True, True)
    return found


@pytest.mark.parametrize("momentum", [False, True])
def test_a_pass_that_does_not_sync_is_refused(ranks, momentum):
    for found in (rank["unsynced", momentum] for rank in ranks):
        assert found[True, True] == ("nothing", False)
        assert found[True, False] == ("the second", True)
        assert found[False, True] == (("nothing", False) if momentum else ("the first", True))


def everything(rank):
    out = {(part, whole_last): sharded(rank, part, whole_last) for part in PARTS for whole_last in (False, True)}
    out |= {("unsynced", momentum): unsynced(rank, momentum) for momentum in (False, True)}
    return out | {"golden": golden(rank), "refusals": refusals(rank)}


@pytest.fixture(scope="module")
def ranks():
    """All of it in one pair of processes."""
    return on_ranks(everything, 2)
