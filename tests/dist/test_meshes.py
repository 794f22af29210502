"""Layouts of four ranks: HSDP, tensor parallel under FSDP2 (strided shards), and half precision in the forward pass."""

import math

import pytest
import torch
from tests.dist.ranks import on_ranks
from torch import nn

import sharpmin as sm
from sharpmin.optim._numeric import sums

REPORTED = ("rho", "radius", "dual_norm", "passes", "gain", "cosine", "amplification", "curvature", "smoothness")
GEOMETRIES = {"l2": sm.L2(), "linf": sm.LInf(), "elementwise": sm.Elementwise(0.1)}


def net(dtype=torch.float64):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).to(dtype)


def data(dtype=torch.float64):
    rng = torch.Generator().manual_seed(1)
    return torch.randn(12, 6, generator=rng).to(dtype), torch.randint(3, (12,), generator=rng)


def train(model, x, y, steps=4, geometry=sm.L2()):
    opt = sm.SAM(torch.optim.Adam(model.parameters(), lr=0.05), rho=0.2, geometry=geometry, telemetry=True)
    for _ in range(steps):
        opt.zero_grad()
        nn.functional.cross_entropy(model(x).float() if x.dtype == torch.float32 else model(x), y).backward()
        with opt.perturbed():
            nn.functional.cross_entropy(model(x).float() if x.dtype == torch.float32 else model(x), y).backward()
        opt.step()
    return opt


def weights(model):
    return [p.full_tensor().detach() if hasattr(p, "full_tensor") else p.detach() for p in model.parameters()]


def sharded(model, mesh, **options):
    from torch.distributed.fsdp import fully_shard

    for layer in (model[0], model[2], model):
        fully_shard(layer, mesh=mesh, **options)
    return model


def shards(model):
    return [p.to_local().detach().clone() for p in model.parameters()]


def layouts(rank):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy
    from torch.distributed.tensor import DTensor, Shard
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
    from torch.distributed.tensor.placement_types import _StridedShard

    out, (x, y) = {}, data()
    hybrid = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard"))
    for name, geometry in GEOMETRIES.items():
        model = sharded(net(), hybrid)
        opt = train(model, x[rank::4], y[rank::4], geometry=geometry)
        out["hsdp", name] = weights(model), [getattr(opt.last, n) for n in REPORTED], shards(model)
    both = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    for name, geometry in GEOMETRIES.items():
        plan = {"0": ColwiseParallel(), "2": RowwiseParallel()}
        model = sharded(parallelize_module(net(), both["tp"], plan), both["dp"])
        half = slice(both["dp"].get_local_rank(), None, 2)
        opt = train(model, x[half], y[half], geometry=geometry)
        strided = any(isinstance(placement, _StridedShard) for p in model.parameters() for placement in p.placements)
        out["tp", name] = weights(model), [getattr(opt.last, n) for n in REPORTED], strided
    made = [_StridedShard(0, split_factor=2), Shard(0)]
    own = DTensor.from_local(torch.full((1,), rank + 1.0, dtype=torch.float64), both, made, run_check=False)
    out["strided norm"] = sums.sum_of_squares([own]), sums.largest_entry([own]), sums.inner([own], [own])

    x, y = data(torch.float32)
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    model = sharded(net(torch.float32), init_device_mesh("cpu", (4,)), mp_policy=policy)
    seen = []
    model[0].register_forward_pre_hook(lambda module, _: seen.append(module.weight.dtype))
    opt = sm.SAM(torch.optim.SGD(model.parameters(), lr=0.0), rho=0.05)
    nn.functional.cross_entropy(model(x[rank::4]).float(), y[rank::4]).backward()
    before, grads = shards(model), [p.grad.to_local().clone() for p in model.parameters()]
    kinds = {p.dtype for p in model.parameters()} | {g.dtype for g in grads}
    norm = math.sqrt(sums.sum_of_squares([p.grad for p in model.parameters()]))
    with opt.perturbed():
        wrong = max(
            float((moved - (w + 0.05 / norm * g)).abs().max()) if w.numel() else 0.0
            for moved, w, g in zip(shards(model), before, grads, strict=True)
        )
        radius = math.sqrt(sums.sum_of_squares(_moves(model, before)))
        nn.functional.cross_entropy(model(x[rank::4]).float(), y[rank::4]).backward()
    restored = all(map(torch.equal, shards(model), before))
    opt.step()
    second = [p.grad.full_tensor() for p in model.parameters()]
    out["mixed"] = kinds, set(seen), wrong, radius, restored, second
    return out


def _moves(model, before):
    from torch.distributed.tensor import DTensor

    return [
        DTensor.from_local(p.to_local().detach() - was, p.device_mesh, p.placements, run_check=False)
        for p, was in zip(model.parameters(), before, strict=True)
    ]


@pytest.fixture(scope="module")
def ranks():
    return on_ranks(layouts, 4)


@pytest.fixture(scope="module")
def whole():
    out = {}
    for name, geometry in GEOMETRIES.items():
        model = net()
        opt = train(model, *data(), geometry=geometry)
        out[name] = weights(model), [getattr(opt.last, n) for n in REPORTED]
    return out


@pytest.mark.parametrize("layout", ["hsdp", "tp"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_four_ranks_are_one_process(ranks, whole, layout, geometry):
    own, report = whole[geometry]
    for rank in ranks:
        found, numbers, _ = rank[layout, geometry]
        torch.testing.assert_close(found, own, rtol=1e-9, atol=1e-9)
        assert numbers == [None if v is None else pytest.approx(v, rel=1e-6) for v in report]


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_replicas_of_a_shard_are_equal_bit_for_bit(ranks, geometry):
    for a, b in ((0, 2), (1, 3)):
        assert all(map(torch.equal, ranks[a]["hsdp", geometry][2], ranks[b]["hsdp", geometry][2]))


def test_strided_shards_are_added_up(ranks):
    """1, 2, 3, 4, one entry a rank; `is_shard()` says no to a strided shard."""
    assert all(rank["tp", "l2"][2] for rank in ranks)
    assert [rank["strided norm"] for rank in ranks] == [(30.0, 4.0, 30.0)] * 4


def test_half_precision_forward_with_float32_weights(ranks):
    """The ascent is exact on the float32 shards; the forward pass sees it rounded to bfloat16."""
    for rank in ranks:
        kinds, seen, wrong, radius, restored, second = rank["mixed"]
        assert kinds == {torch.float32}
        assert seen == {torch.bfloat16}
        assert wrong <= 2**-24 * 2
        assert radius == pytest.approx(0.05, rel=1e-6)
        assert restored
        torch.testing.assert_close(second, half_precision_gradient(), rtol=1e-5, atol=1e-7)


def half_precision_gradient():
    """The second gradient of one process that rounds as four ranks do: each quarter of the batch by a bfloat16 copy."""
    model, (x, y) = net(torch.float32), data(torch.float32)

    def gradients():
        quarters = []
        for rank in range(4):
            copy = net(torch.bfloat16)
            copy.load_state_dict(model.state_dict())
            nn.functional.cross_entropy(copy(x[rank::4].bfloat16()).float(), y[rank::4]).backward()
            quarters.append([p.grad.float() for p in copy.parameters()])
        return [sum(parts) / 4 for parts in zip(*quarters, strict=True)]

    first = gradients()
    norm = sum(g.double().square().sum() for g in first).sqrt().item()
    with torch.no_grad():
        for p, g in zip(model.parameters(), first, strict=True):
            p.add_(g, alpha=0.05 / norm)
    return gradients()
