"""What a watched run writes down is the same for sharded, partly sharded and plain parameters."""

import pytest
import torch
from tests.dist.ranks import on_ranks
from torch import nn

import sharpmin as sm
from sharpmin.diagnostics._run.rows import decode

BASES = {
    "sgd": lambda params: torch.optim.SGD(params, lr=0.05, momentum=0.5, weight_decay=0.01),
    "adamw": lambda params: torch.optim.AdamW(params, lr=0.01, weight_decay=0.1),
}
LAYOUTS = {"fsdp": None, "rows, columns, copies": (0, 1, None)}


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(150, 120), nn.Tanh(), nn.Linear(120, 7), nn.Tanh(), nn.Linear(7, 3)).double()


def data():
    rng = torch.Generator().manual_seed(1)
    return torch.randn(12, 150, generator=rng).double(), torch.randint(3, (12,), generator=rng)


def watched(model, base, x, y):
    """The rows of six steps."""
    opt = sm.SAM(BASES[base](model.parameters()), rho=0.2, descent=sm.ClippedDifference(0.3))
    probe = sm.watch(opt, every=1, block=3, mu=0.1)
    for _ in range(6):
        opt.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        with opt.perturbed():
            nn.functional.cross_entropy(model(x), y).backward()
        opt.step()
    return [*probe.log.steps, *probe.log.blocks]


def shard_by_hand(model, dims):
    """DTensors over two ranks, the layers along these dimensions (None: replicated); gradients come out of the same graph."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (2,))
    for layer, dim in zip((model[0], model[2], model[4]), dims, strict=True):
        placement = [Replicate() if dim is None else Shard(dim)]
        layer.weight = nn.Parameter(distribute_tensor(layer.weight.detach(), mesh, placement))
        layer.bias = nn.Parameter(distribute_tensor(layer.bias.detach(), mesh, [Replicate()]))
    return lambda t: distribute_tensor(t, mesh, [Replicate()])


def sharded(rank, cells):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    found = []
    for layout, base in cells:
        model, (x, y) = net(), data()
        if LAYOUTS[layout] is None:
            mesh = init_device_mesh("cpu", (2,))
            for module in (model[0], model[2], model):
                fully_shard(module, mesh=mesh)
            x, y = x[rank::2], y[rank::2]
        else:
            spread = shard_by_hand(model, LAYOUTS[layout])
            x, y = spread(x), spread(y)
        found.append(watched(model, base, x, y))
    return found


def plain(row):
    """A row with its sketches as numbers, without times."""
    sketches = {key: decode(value).tolist() for key, value in row.items() if key in ("g", "d", "pd", "pg", "x")}
    return {key: value for key, value in {**row, **sketches}.items() if key not in ("kind", "time", "id")}


def test_rows_are_those_of_one_process():
    cells = [(layout, base) for layout in LAYOUTS for base in BASES]
    right = {base: watched(net(), base, *data()) for base in BASES}
    for found in on_ranks(sharded, 2, cells):
        for (layout, base), rows in zip(cells, found, strict=True):
            assert len(rows) == len(right[base]) == 8
            for row, own in zip(map(plain, rows), map(plain, right[base]), strict=True):
                assert row.keys() == own.keys()
                for key, value in own.items():
                    assert row[key] == pytest.approx(value, rel=1e-5, abs=1e-6), (layout, base, key)
