"""torch.distributed.checkpoint: saved on two ranks, loaded on one and on three, and on as if nothing had happened."""

import tempfile

import pytest
import torch
import torch.distributed.checkpoint as dcp
from tests.dist.ranks import on_ranks
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict

import sharpmin as sm

KINDS = {  # name -> (base, rho, FSDP2 else DDP, flattened)
    "sharded": (torch.optim.Adam, 0.2, True, False),
    "flattened": (torch.optim.Adam, 0.2, True, True),
    "schedule": (torch.optim.Adam, sm.rho.Cosine(0.2, steps=12), True, True),
    "stateless": (torch.optim.SGD, sm.rho.Every(0.2, 3), True, False),
    "gate": (torch.optim.Adam, sm.rho.Gate(0.2, 9, delta=0.5, first=0.0, last=0.0), True, True),
    "replicated gate": (torch.optim.Adam, sm.rho.Gate(0.2, 9, delta=0.5, first=0.0, last=0.0), False, False),
    "replicated": (torch.optim.Adam, sm.rho.Cosine(0.2, steps=12), False, False),
}
REPORTED = ("rho", "radius", "dual_norm", "passes", "cosine", "amplification", "curvature", "smoothness", "climbed", "total_passes")


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, 3)).double()


def data(step):
    rng = torch.Generator().manual_seed(step)
    return torch.randn(12, 6, generator=rng).double(), torch.randint(3, (12,), generator=rng)


def build(kind, rank, world, *, fresh):
    """Model and SAM of a process; a fresh one starts with another radius and other weights, which the checkpoint replaces."""
    base, rho, sharded, _ = KINDS[kind]
    model = net()
    if fresh:
        for p in model.parameters():
            p.data.add_(1.0)
    if world > 1 and sharded:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh("cpu", (world,))
        for layer in (model[0], model[2], model):
            fully_shard(layer, mesh=mesh)
    elif world > 1:
        model = nn.parallel.DistributedDataParallel(model)
    number = 0.7 if fresh and isinstance(rho, float) else rho
    return model, sm.SAM(base(model.parameters(), lr=0.05), rho=number, telemetry=True)


def train(model, opt, rank, world, steps):
    for step in steps:
        x, y = (t[rank::world] for t in data(step))
        opt.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        with opt.perturbed():
            if opt.needs_second_pass:
                nn.functional.cross_entropy(model(x), y).backward()
        opt.step()
    return [getattr(opt.last, name) for name in REPORTED]


def weights(model):
    return [p.full_tensor().detach() if hasattr(p, "full_tensor") else p.detach() for p in model.parameters()]


def options(kind):
    return StateDictOptions(flatten_optimizer_state_dict=KINDS[kind][3])


def save(rank, folder, world):
    out = {}
    for kind in KINDS:
        model, opt = build(kind, rank, world, fresh=False)
        if kind == "stateless":  # others would keep the state which torch makes to save it
            get_state_dict(model, opt, options=options(kind))
        train(model, opt, rank, world, range(5))
        before = opt.last
        opt.zero_grad()
        for _ in range(2):
            state, optim = get_state_dict(model, opt, options=options(kind))
        dcp.save({"model": state, "optim": optim}, checkpoint_id=f"{folder}/{kind}")
        out[kind] = opt.param_groups[0]["sharpmin_step"], opt.last == before, train(model, opt, rank, world, range(5, 9))
        out[kind] += (weights(model),)
    return out


def load(rank, folder, world):
    out = {}
    for kind in KINDS:
        model, opt = build(kind, rank, world, fresh=True)
        state, optim = get_state_dict(model, opt, options=options(kind))
        found = {"model": state, "optim": optim}
        dcp.load(found, checkpoint_id=f"{folder}/{kind}")
        set_state_dict(model, opt, model_state_dict=found["model"], optim_state_dict=found["optim"], options=options(kind))
        count = opt.param_groups[0]["sharpmin_step"]
        out[kind] = count, opt.param_groups[0]["rho"], train(model, opt, rank, world, range(5, 9)), weights(model)
    return out


@pytest.fixture(scope="module")
def runs():
    with tempfile.TemporaryDirectory() as folder:
        saved = on_ranks(save, 2, folder, 2)
        return saved, {1: on_ranks(load, 1, folder, 1), 3: on_ranks(load, 3, folder, 3)}


@pytest.fixture(scope="module")
def whole():
    """Nine steps in this process."""
    out = {}
    for kind in KINDS:
        model, opt = build(kind, 0, 1, fresh=False)
        train(model, opt, 0, 1, range(5))
        out[kind] = train(model, opt, 0, 1, range(5, 9)), weights(model)
    return out


def test_the_gate_says_yes_and_no(whole):
    for kind in ("gate", "replicated gate"):
        report, _ = whole[kind]
        climbed, passes = report[-2:]
        assert (passes, 0 < climbed < 9) == (9 + climbed, True)


@pytest.mark.parametrize("kind", KINDS)
def test_saving_disturbs_nothing(runs, whole, kind):
    for run in runs[0]:
        count, same, report, own = run[kind]
        assert (count, same) == (5, True)
        close(own, report, *reversed(whole[kind]))


@pytest.mark.parametrize("world", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_run_goes_on(runs, whole, kind, world):
    for run in runs[1][world]:
        count, rho, report, own = run[kind]
        assert (count, rho) == (5, KINDS[kind][1])
        close(own, report, *reversed(whole[kind]))


def close(own, report, expected, expected_report):
    torch.testing.assert_close(own, expected, rtol=1e-9, atol=1e-9)
    assert report == [None if v is None else pytest.approx(v, rel=1e-6) for v in expected_report]
