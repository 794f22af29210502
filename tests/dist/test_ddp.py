"""SAM under DistributedDataParallel on two real ranks: the golden case A10 and what keeps replicas equal."""

import copy
import re

import pytest
import torch
import torch.distributed as dist
from tests.dist.ranks import on_ranks
from torch import nn
from torch.nn.parallel import DistributedDataParallel as DDP

import sharpmin as sm


class Parabola(nn.Module):
    """curvature / 2 (x - center)^2: f1 = 1.5 (x - 1)^2 and f2 = 0.5 (x + 3)^2 as functions of a batch (curvature, center)."""

    def __init__(self, dtype=torch.float64):
        super().__init__()
        self.x = nn.Parameter(torch.tensor(0.5, dtype=dtype))

    def forward(self, batch):
        return 0.5 * batch[0] * (self.x - batch[1]) ** 2


OWN = [(3.0, 1.0), (1.0, -3.0)]


def golden(rank, scope, **options):
    """x' after one step with f1 on rank 0, f2 on rank 1; and how many all-reduces it took."""
    model = DDP(Parabola(), **options)
    opt = sm.SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.1, scope=scope, model=model)
    counted = Counted(model)
    for _ in range(2):  # the second step starts from the first one's end, on all ranks alike
        opt.zero_grad()
        with opt.clean():
            model(OWN[rank]).backward()
        with opt.perturbed():
            model(OWN[rank]).backward()
        opt.step()
        if counted.count is not None and not hasattr(counted, "first"):
            counted.first = (model.module.x.item(), counted.count)
    return (*counted.first, model.module.x.item())


class Counted:
    """Counts the gradient reductions of a DDP model."""

    def __init__(self, model):
        self.count = 0
        model.register_comm_hook(self, Counted.hook)

    @staticmethod
    def hook(state, bucket):
        state.count += 1
        work = dist.all_reduce(bucket.buffer().div_(dist.get_world_size()), async_op=True)
        return work.get_future().then(lambda future: future.value()[0])


OPTIONS = {"plain": {}, "unused": {"find_unused_parameters": True}, "views": {"gradient_as_bucket_view": True}}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize(("scope", "end", "reductions"), [("global", 0.38, 2), ("rank", 0.41, 1)])
def test_the_golden_step(ranks, scope, end, reductions, options):
    first, second = (rank["golden", scope, options] for rank in ranks)
    assert first == second
    assert first[0] == pytest.approx(end, abs=1e-12)
    assert first[1] == reductions


def accumulated(rank, scope):
    """Two ranks with two micro-batches each: the numbers of the recipes."""
    batches = [[(3.0, 1.0), (1.0, -3.0)], [(2.0, -2.0), (0.5, 4.0)]][rank]
    model = DDP(Parabola())
    opt = sm.SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.1, scope=scope, model=model)
    if scope == "global":
        passes(model, batches)
        with opt.perturbed():
            passes(model, batches)
    else:
        for k, batch in enumerate(batches):
            with opt.clean():
                (model(batch) / 2).backward()
            with model.no_sync() if k == 0 else torch.enable_grad(), opt.perturbed():
                (model(batch) / 2).backward()
    opt.step()
    return model.module.x.item()


def passes(model, batches):
    with model.no_sync():
        (model(batches[0]) / 2).backward()
    (model(batches[1]) / 2).backward()


@pytest.mark.parametrize("scope", ["global", "microbatch"])
def test_accumulation(ranks, scope):
    def slope(batch, x):
        return batch[0] * (x - batch[1])

    batches = [(3.0, 1.0), (1.0, -3.0), (2.0, -2.0), (0.5, 4.0)]
    if scope == "global":
        mean = sum(slope(b, 0.5) for b in batches) / 4
        ends = sum(slope(b, 0.5 + 0.1 * (1 if mean > 0 else -1)) for b in batches) / 4
    else:
        ends = sum(slope(b, 0.5 + 0.1 * (1 if slope(b, 0.5) > 0 else -1)) for b in batches) / 4
    assert [rank["accumulated", scope] for rank in ranks] == [pytest.approx(0.5 - 0.1 * ends, abs=1e-12)] * 2


def trained(rank, scope, dtype=torch.bfloat16, steps=60):
    """A net in low precision on different data per rank; its weights, bit for bit."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 80), nn.BatchNorm1d(80), nn.Tanh(), nn.Linear(80, 4)).to(dtype)
    model = DDP(net)
    opt = sm.SAM(torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9), rho=0.5, scope=scope, model=model)
    rng = torch.Generator().manual_seed(rank)
    for _ in range(steps):
        x, y = torch.randn(16, 8, generator=rng).to(dtype), torch.randint(4, (16,), generator=rng)
        opt.zero_grad()
        with opt.clean():
            nn.functional.cross_entropy(model(x).float(), y).backward()
        with opt.perturbed():
            nn.functional.cross_entropy(model(x).float(), y).backward()
        opt.step()
    counts = [b.item() for n, b in net.named_buffers() if "tracked" in n]
    return [p.detach().view(torch.int16).tolist() for p in net.parameters()], counts


@pytest.mark.parametrize("scope", ["global", "rank"])
def test_replicas_are_equal_after_60_bf16_steps_of_1200_weights(ranks, scope):
    (first, counts), (second, _) = (rank["trained", scope] for rank in ranks)
    assert first == second
    assert counts == [60]  # BatchNorm moved once a step


def overflow(rank, scope, spoilt, bad_rank=1):
    """One rank's first or second gradient overflows under a scaler; then a good step."""
    model = DDP(Parabola(torch.float32))
    opt = sm.SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.1, scope=scope, model=model)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    seen = []
    for step in range(2):
        opt.zero_grad()
        bad = [torch.tensor(float("inf")) if step == 0 and spoilt == k and rank == bad_rank else 1.0 for k in (1, 2)]
        with opt.clean():
            scaler.scale(model(OWN[rank]) * bad[0]).backward()
        with opt.perturbed(scaler):
            scaler.scale(model(OWN[rank]) * bad[1]).backward()
        scaler.step(opt)
        scaler.update()
        seen.append((model.module.x.item(), scaler.get_scale(), opt.last.stepped))
    return seen


@pytest.mark.parametrize("scope", ["global", "rank"])
@pytest.mark.parametrize("spoilt", [1, 2])
def test_one_rank_overflows_and_all_skip(ranks, scope, spoilt):
    first, second = (rank["overflow", scope, spoilt] for rank in ranks)
    assert first == second
    assert first[0] == (0.5, 512.0, False)
    assert first[1] == (pytest.approx({"global": 0.38, "rank": 0.41}[scope], abs=1e-6), 512.0, True)


def zero_on_one(rank):
    """Rank 1 has a zero first gradient: it still takes part in the second pass."""
    model = DDP(Parabola())
    opt = sm.SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.1, scope="rank", model=model)
    batch = [(3.0, 1.0), (1.0, 0.5)][rank]
    with opt.clean():
        model(batch).backward()
    with opt.perturbed():
        model(batch).backward()
    opt.step()
    return model.module.x.item()


def test_a_rank_at_rest_takes_part(ranks):
    """Mean of 3 (0.4 - 1) on rank 0, climbing against its gradient, and 0 on rank 1."""
    assert [rank["zero"] for rank in ranks] == [pytest.approx(0.5 + 0.1 * 0.9, abs=1e-12)] * 2


def misuse(rank):
    """Every wrong use, and what it says."""
    said = []
    model = DDP(Parabola())
    base = torch.optim.SGD(model.parameters(), lr=0.1)
    ranked = sm.SAM(base, rho=0.1, scope="rank", model=model)
    model(OWN[rank]).backward()  # clean() forgotten
    said.append(refused(ranked.perturb))
    ranked.zero_grad()
    loss = model(OWN[rank])
    with model.no_sync():  # around the backward alone
        loss.backward()
    said.append(refused(ranked.perturb))
    ranked.zero_grad()
    with ranked.clean():
        model(OWN[rank]).backward()
    said.append(refused(lambda: second(ranked, model, rank)))
    whole = sm.SAM(copy.copy(base), rho=0.1, model=model)
    with model.no_sync():
        model(OWN[rank]).backward()
    said.append(refused(whole.perturb))
    static = DDP(Parabola(), static_graph=True)
    said.append(refused(lambda: sm.SAM(torch.optim.SGD(static.parameters(), lr=0.1), scope="rank", model=static)))
    said.append(refused(lambda: sm.SAM(torch.optim.SGD(static.parameters(), lr=0.1), scope="rank", model=Parabola())))
    for options in ({"descent": sm.Mix(0.7)}, {"descent": sm.ClippedDifference()}, {"telemetry": True}):
        said.append(refused(lambda more=options: sm.SAM(copy.copy(base), rho=0.1, scope="rank", model=model, **more)))
    return said, model.module.x.item()


def second(opt, model, rank):
    with opt.perturbed(), model.no_sync():
        model(OWN[rank]).backward()


def refused(call):
    try:
        call()
    except (sm.PhaseError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def test_wrong_use_is_seen(ranks):
    said, x = ranks[0]["misuse"]
    words = [
        "PhaseError.*inside opt.clean",
        "PhaseError.*around the backward alone has no effect",
        "PhaseError.*second pass ran under no_sync",
        "PhaseError.*climb along a gradient of its own",
        "ValueError.*static_graph",
        "ValueError.*got Parabola",
        *["ValueError.*one second gradient for all"] * 3,
    ]
    for found, pattern in zip(said, words, strict=True):
        assert found is not None
        assert re.search(pattern, found), found
    assert x == 0.5


def reduced_by_hand(rank, watched):
    """Plain data parallel: gradients are averaged by hand in both passes; the last one of rank 1 has a nan at step 1."""
    w = nn.Parameter(torch.tensor([3.0, 1.0, -2.0]))
    opt = sm.SAM(torch.optim.SGD([w], lr=0.1), rho=0.1, telemetry=watched)
    if watched:
        sm.watch(opt, every=1)
    stepped = []
    for t in range(3):
        opt.zero_grad()
        (w**2).sum().backward()
        dist.all_reduce(w.grad)
        with opt.perturbed():
            ((w**2).sum() * (float("nan") if (t, rank) == (1, 1) else 1.0)).backward()
        dist.all_reduce(w.grad)  # torch counts no write
        opt.step()
        stepped.append(opt.last.stepped)
    return stepped, w.detach()


@pytest.mark.parametrize("watched", [False, True])
def test_a_nan_that_comes_by_a_reduction_of_ones_own_is_seen(ranks, watched):
    (one, w), (two, v) = (rank["by hand", watched] for rank in ranks)
    assert one == two == [True, False, True]
    assert torch.equal(w, v)
    assert torch.isfinite(w).all()


def everything(rank):
    both = "global", "rank"
    out = {("golden", scope, name): golden(rank, scope, **options) for scope in both for name, options in OPTIONS.items()}
    out |= {("accumulated", scope): accumulated(rank, scope) for scope in ("global", "microbatch")}
    out |= {("trained", scope): trained(rank, scope) for scope in both}
    out |= {("overflow", scope, spoilt): overflow(rank, scope, spoilt) for scope in both for spoilt in (1, 2)}
    out |= {("by hand", watched): reduced_by_hand(rank, watched) for watched in (False, True)}
    return out | {"zero": zero_on_one(rank), "misuse": misuse(rank)}


@pytest.fixture(scope="module")
def ranks():
    """All of it in one pair of processes."""
    return on_ranks(everything, 2)
