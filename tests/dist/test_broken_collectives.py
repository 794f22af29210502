"""A collective that fails on every rank, or a rank that never comes to it: on each, w is back and the next step is right."""

import gc
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from tests.dist.ranks import on_ranks
from torch import nn
from torch.nn.parallel import DistributedDataParallel as DDP

import sharpmin as sm

DOORS = ["block", "closure", "raw"]
OWN = [("fsdp", door, k, door == "block") for door in DOORS for k in range(3)]  # the norm, its flag, and what telemetry compares
OWN += [("scaler in scope rank", door, 0, after) for door in ("block", "raw") for after in (False, True)]
LOST = [("ddp", door, at) for door in DOORS for at in ("first", "second")]


class Boom(Exception):
    """What a collective raises."""


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4))


class Run:
    """A small run whose passes may raise."""

    def __init__(self, door, net, scaler=None, **options):
        self.model, self.net, self.door, self.scaler, self.before_pass = net, net, door, scaler, {}
        self.opt = sm.SAM(torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9), rho=0.1, **options)

    def wrap(self, **options):
        """From now on in a DDP of its own; the one before must be gone, since its hooks would reduce, too."""
        self.model = None
        gc.collect()
        self.model = DDP(self.net, **options)

    def backward(self, i):
        self.passes += 1
        self.before_pass.get(self.passes, bool)()
        x = torch.randn(4, 6, generator=torch.Generator().manual_seed(10 * i + dist.get_rank()))
        loss = nn.functional.cross_entropy(self.model(x), torch.arange(4))
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        return loss

    def step(self, i):
        self.passes = 0
        if self.door == "closure":
            self.opt.step(lambda: self.opt.zero_grad() or self.backward(i))
            return
        self.opt.zero_grad()
        with self.opt.clean():
            self.backward(i)
        if self.door == "block":
            with self.opt.perturbed(self.scaler):
                self.backward(i)
        else:
            self.opt.perturb(self.scaler)
            self.backward(i)
            self.opt.restore()
        if self.scaler is None:
            self.opt.step()
        else:
            self.scaler.step(self.opt)
            self.scaler.update()

    def fails(self, i, error):
        """A step that raises; the weights of before and of after."""
        was = self.weights()
        try:
            self.step(i)
        except error:
            if self.door == "raw":
                self.opt.abort()
            return torch.equal(was, self.weights()) and torch.is_grad_enabled()
        return "no exception"

    def weights(self):
        """This rank's part of them."""
        own = [p.detach() for p in self.net.parameters()]
        return torch.cat([(p.to_local() if hasattr(p, "to_local") else p).flatten() for p in own])


def made(kind, door):
    if kind == "fsdp":
        from torch.distributed.fsdp import fully_shard

        model = net()
        fully_shard(model)
        return Run(door, model, telemetry=True)
    model = DDP(net())
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0) if "scaler" in kind else None
    return Run(door, model, scaler, scope="rank", model=model)


def broken(kind, door, k, after):
    """The k-th collective of SAM's own raises on both ranks, before or after it has been made."""
    runs, real, calls = [made(kind, door), made(kind, door)], dist.all_reduce, []

    def all_reduce(*args, **options):
        calls.append(None)
        if len(calls) == k + 1 and not after:
            raise Boom
        real(*args, **options)
        if len(calls) == k + 1:
            raise Boom

    for run in runs:
        run.step(0)
    dist.all_reduce = all_reduce
    try:
        back = runs[0].fails(1, Boom)
    finally:
        dist.all_reduce = real
    return back, after_it(runs)


def after_it(runs):
    """Whether two more steps end where the run ends that has left the batch out."""
    for i in (2, 3):
        for run in runs:
            run.step(i)
    return torch.equal(runs[0].weights(), runs[1].weights())


def lost(kind, door, at):
    """Rank 1 raises before it comes to a reduction; rank 0 waits for it in vain."""

    def raises():
        raise Boom

    runs = [Run(door, net()) for _ in range(2)]
    for run in runs:
        run.wrap()
        run.step(0)
    runs[0].wrap(process_group=dist.new_group(timeout=timedelta(seconds=1)))
    runs[0].before_pass = {1 if at == "first" else 2: raises} if dist.get_rank() == 1 else {}
    back = runs[0].fails(1, (Boom, RuntimeError))
    runs[0].before_pass = {}
    dist.barrier()
    runs[0].wrap()
    return back, after_it(runs)


def work(rank):
    found = {case: broken(*case) for case in OWN}
    return found | {case: lost(*case) for case in LOST}


@pytest.fixture(scope="module")
def ranks():
    return on_ranks(work, 2)


@pytest.mark.parametrize("case", [*OWN, *LOST], ids=str)
def test_w_is_back_on_every_rank_and_the_next_steps_are_right(ranks, case):
    assert [rank[case] for rank in ranks] == [(True, True)] * 2
