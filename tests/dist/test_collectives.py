"""How many collectives a SAM step makes beyond those of its two passes: exact numbers, which docs/distributed.md states."""

from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from tests.dist.ranks import on_ranks
from torch import nn
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils._python_dispatch import TorchDispatchMode

import sharpmin as sm

PARTS = {
    "L2": {},
    "LInf": {"geometry": sm.LInf()},
    "Elementwise": {"geometry": sm.Elementwise(0.1)},
    "Mix": {"descent": sm.Mix(0.4)},
    "ClippedDifference": {"descent": sm.ClippedDifference(0.3)},
    "telemetry": {"telemetry": True},
    "Momentum": {"ascent": sm.Momentum()},
}


class Collectives(TorchDispatchMode):
    """Counts what reaches a process group, from Python or from DDP's reducer."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace in ("c10d", "_c10d_functional"):
            self.counts[func._opname] += 1
        return func(*args, **(kwargs or {}))


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)).float()


def step(model, opt, scaler=None):
    """What the two passes and what SAM itself communicated in a step, the third one."""
    inside, own = Collectives(), Collectives()
    for in_a_pass, in_all in [(nullcontext(), nullcontext())] * 2 + [(inside, own)]:  # DDP arranges its buckets after the first
        opt.zero_grad()
        with in_all:
            if opt.ascent.needs_clean:
                with opt.clean():
                    backward(model, scaler, in_a_pass)
            with opt.perturbed(scaler):
                backward(model, scaler, in_a_pass)
            if scaler is None:
                opt.step()
            else:
                scaler.step(opt)
                scaler.update()
    return dict(inside.counts), dict(own.counts - inside.counts)


def backward(model, scaler, counter):
    torch.default_generator.manual_seed(1)
    with counter:
        loss = nn.functional.cross_entropy(model(torch.randn(4, 6)), torch.tensor([0, 1, 2, 3]))
        (loss if scaler is None else scaler.scale(loss)).backward()


def counted(rank):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    out = {}
    for scope in ("global", "rank", "microbatch"):
        for name, options in PARTS.items():
            if scope != "global" and name in ("Momentum", "Mix", "ClippedDifference", "telemetry"):
                continue  # refused
            for scaled in (False, True):
                model = DDP(net())
                base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
                opt = sm.SAM(base, rho=0.1, scope=scope, model=model, **options)
                scaler = torch.amp.GradScaler("cpu", init_scale=4.0) if scaled else None
                out["ddp", scope, name, scaled] = step(model, opt, scaler)
    for dims in ((2,), (1, 2)):
        for name, options in PARTS.items():
            model = net()
            mesh = init_device_mesh("cpu", dims, mesh_dim_names=("replicate", "shard")[-len(dims) :])
            for layer in (model[0], model[2], model):
                fully_shard(layer, mesh=mesh)
            base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
            opt = sm.SAM(base, rho=0.1, **options)
            out["fsdp", len(dims), name] = step(model, opt)
            if name == "L2":
                for every in (8, 1):  # the third step is sketched by the second watch alone
                    opt.watchers.clear()
                    sm.watch(opt, every=every)
                    out["fsdp", len(dims), "watch", every] = step(model, opt)
    return out


@pytest.fixture(scope="module")
def ranks():
    return on_ranks(counted, 2)


EXTRA = {"L2": 2, "LInf": 2, "Elementwise": 2, "Mix": 2, "ClippedDifference": 3, "telemetry": 3, "Momentum": 2}


@pytest.mark.parametrize("scope", ["global", "rank", "microbatch"])
def test_ddp_needs_no_more_than_its_reductions(ranks, scope):
    """Only a scaler in scope "rank" makes ranks exchange a flag."""
    for rank in ranks:
        own = {key[2:]: found for key, found in rank.items() if key[:2] == ("ddp", scope)}
        assert own
        for (name, scaled), (inside, extra) in own.items():
            assert inside == {"allreduce_": 2 if scope == "global" and name != "Momentum" else 1}
            assert extra == ({"allreduce_": 1} if scaled and scope == "rank" else {})


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("dims", [1, 2])
def test_fsdp_reduces_single_numbers(ranks, dims, name):
    passes = 1 if name == "Momentum" else 2
    for rank in ranks:
        inside, extra = rank["fsdp", dims, name]
        assert inside["_reduce_scatter_base_"] == 2 * passes
        assert extra == {"allreduce_": EXTRA[name]}
    assert f"| {EXTRA[name]} |" in row(f"FSDP2, {name}")


def test_watch_reduces_once_whatever_the_step(ranks):
    for rank in ranks:
        for dims in (1, 2):
            for every in (8, 1):
                assert rank["fsdp", dims, "watch", every][1] == {"allreduce_": EXTRA["telemetry"]}
    assert f"| {EXTRA['telemetry']} |" in row("FSDP2, `watch`")


def row(start):
    page = Path(__file__).parents[2] / "docs" / "distributed.md"
    (line,) = [line for line in page.read_text().splitlines() if line.startswith(f"| {start} ")]
    return line
