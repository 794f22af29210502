"""Micro-batches under DistributedDataParallel on two real ranks, against the same sum in one process."""

import math
import sys
import re

import pytest
import torch
from tests.dist.ranks import on_ranks
from torch import nn
from torch.nn.parallel import DistributedDataParallel as DDP

import sharpmin as sm
from sharpmin.optim._numeric import foreach

START, RHO, LR = 0.5, 0.1, 0.1
BATCHES = {  # per rank, per micro-batch: curvature and center; a center of 0.5 gives a first gradient of zero
    "none at rest": [[(3.0, 1.0), (1.0, -3.0)], [(2.0, -2.0), (0.5, 4.0)]],
    "first at rest on both": [[(3.0, 0.5), (1.0, -3.0)], [(2.0, 0.5), (0.5, 4.0)]],
    "last at rest on both": [[(3.0, 1.0), (1.0, 0.5)], [(2.0, -2.0), (0.5, 0.5)]],
    "last at rest on one": [[(3.0, 1.0), (1.0, -3.0)], [(2.0, -2.0), (0.5, 0.5)]],
    "first at rest on one": [[(3.0, 0.5), (1.0, -3.0)], [(2.0, -2.0), (0.5, 4.0)]],
    "one rank at rest": [[(3.0, 1.0), (1.0, -3.0)], [(2.0, 0.5), (0.5, 0.5)]],
    "all at rest": [[(3.0, 0.5), (1.0, 0.5)], [(2.0, 0.5), (0.5, 0.5)]],
}


class Parabola(nn.Module):
    """curvature / 2 (x - center)^2."""

    def __init__(self, dtype=torch.float64):
        super().__init__()
        self.x = nn.Parameter(torch.tensor(START, dtype=dtype))

    def forward(self, batch):
        return 0.5 * batch[0] * (self.x - batch[1]) ** 2


def oracle(batches, steps):
    """x after some steps with the mean of all micro-batches of all ranks, each climbed by itself."""
    x, own = START, [b for rank in batches for b in rank]
    for _ in range(steps):
        ends = 0.0
        for curvature, center in own:
            slope = curvature * (x - center)
            ends += curvature * (x + RHO * (slope > 0) - RHO * (slope < 0) - center) / len(own)
        x -= LR * ends
    return x


def step(model, opt, batches, spoil=(), scaler=None):
    """One step; `spoil` holds (micro-batch, pass) whose loss is infinite."""
    scale = (lambda loss: loss) if scaler is None else scaler.scale
    for k, batch in enumerate(batches):
        with opt.clean():
            scale(model(batch) / len(batches) * (math.inf if (k, 1) in spoil else 1.0)).backward()
        with model.no_sync() if k + 1 < len(batches) else torch.enable_grad(), opt.perturbed(scaler):
            scale(model(batch) / len(batches) * (math.inf if (k, 2) in spoil else 1.0)).backward()
    if scaler is None:
        opt.step()
    else:
        scaler.step(opt)
        scaler.update()


def sam(model, /, **options):
    base = torch.optim.SGD(model.parameters(), lr=LR)
    return sm.SAM(base, **{"rho": RHO, "scope": "microbatch", "model": model, **options})


def ends(rank, only=None):
    found = {}
    for name, batches in BATCHES.items():
        model = DDP(Parabola())
        opt = sam(model)
        for _ in range(2):
            opt.zero_grad()
            step(model, opt, batches[rank])
        found[name] = model.module.x.item()
    model = DDP(Parabola())
    opt = sam(model, rho=sm.rho.Every(RHO, 2))
    for _ in range(2):
        opt.zero_grad()
        step(model, opt, BATCHES["none at rest"][rank])
    found["every"] = model.module.x.item()
    return found


def overflows(rank):
    """Rank 1 alone has an infinite gradient in one pass of one micro-batch; all skip, and go on together."""
    found = []
    for device in (False, True):
        if device:  # the path of an accelerator, on CPU tensors: only the device knows the norms
            asking = [m for name, m in list(sys.modules.items()) if name.startswith("sharpmin.optim")]
            for module in (m for m in asking if hasattr(m, "on_host")):
                module.on_host = lambda _: False
            foreach.serves = lambda *_: False
        for scaled in (False, True):
            for spoil in ((0, 1), (1, 1), (0, 2), (1, 2)):
                model = DDP(Parabola(torch.float32))
                opt = sam(model, skip_nonfinite=True)
                scaler = torch.amp.GradScaler("cpu", init_scale=1024.0) if scaled else None
                opt.zero_grad()
                step(model, opt, BATCHES["none at rest"][rank], [spoil] if rank == 1 else [], scaler)
                first = model.module.x.item(), opt.last.stepped
                opt.zero_grad()
                step(model, opt, BATCHES["none at rest"][rank], [], scaler)
                found.append((device, spoil, first, model.module.x.item(), opt.last.stepped, scaled and scaler.get_scale()))
    return found


def said(call):
    try:
        call()
    except (sm.PhaseError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def refusals(rank):
    """Every wrong use, and what it says."""
    out, batches, other = {}, BATCHES["last at rest on both"][rank], DDP(Parabola())
    keeps = {"telemetry": {"telemetry": True}, "mix": {"descent": sm.Mix()}, "clipped": {"descent": sm.ClippedDifference()}}
    for name, options in keeps.items():
        out[name] = said(lambda options=options: sam(other, **options))
    for name, given in {"no model": lambda net: None, "bare net": lambda net: net}.items():
        net = Parabola()
        model = DDP(net)
        opt = sam(net, model=given(net))
        out[name] = said(lambda model=model, opt=opt: step(model, opt, batches))
        out[f"{name} after"] = net.x.item(), net.x.grad
    model = DDP(Parabola())
    opt = sam(model)

    def half(second):
        opt.zero_grad()
        with opt.clean():
            model(batches[0]).backward()
        with model.no_sync(), opt.perturbed():
            model(batches[0]).backward()
        with opt.clean():
            model(batches[1]).backward()
        if second:
            with model.no_sync(), opt.perturbed():
                model(batches[1]).backward()
        opt.step()

    out["no second pass"], out["never synced"] = said(lambda: half(False)), said(lambda: half(True))
    net = Parabola()  # another network in DDP, such as a teacher, is nobody's business
    opt, teacher = sam(net, model=net), DDP(Parabola())
    with opt.clean():
        (net(batches[0]) + teacher(batches[0])).backward()
    with opt.perturbed():
        net(batches[0]).backward()
    opt.step()
    out["teacher"] = net.x.item()
    return out, model.module.x.item()


def everything(rank):
    return ends(rank), refusals(rank), overflows(rank)  # the last one patches the process


@pytest.fixture(scope="module")
def ranks():
    return on_ranks(everything, 2)


@pytest.mark.parametrize("name", BATCHES)
def test_every_micro_batch_is_climbed_by_itself(ranks, name):
    (first, _, _), (second, _, _) = ranks
    assert first[name] == second[name]
    assert first[name] == pytest.approx(oracle(BATCHES[name], 2), abs=1e-12)


def test_a_step_at_radius_zero_is_the_base_optimizer(ranks):
    x = oracle(BATCHES["none at rest"], 1)
    slope = sum(c * (x - center) for rank in BATCHES["none at rest"] for c, center in rank) / 4
    assert [r[0]["every"] for r in ranks] == [pytest.approx(x - LR * slope, abs=1e-12)] * 2


def test_one_rank_overflows_and_all_skip(ranks):
    first, second = (r[2] for r in ranks)
    assert first == second
    for case in first:
        _, _, after, end, stepped, scale = case
        assert after == (START, False), case
        assert (end, stepped) == (pytest.approx(oracle(BATCHES["none at rest"], 1), abs=1e-6), True), case
        assert scale in (False, 512.0), case


WORDS = dict.fromkeys(("telemetry", "mix", "clipped"), "ValueError.*cannot keep the first gradient")
WORDS |= dict.fromkeys(("no model", "bare net"), "ValueError.*that SAM was not given.*model=ddp_model")
WORDS |= {
    "no second pass": "PhaseError.*although its gradient is zero",
    "never synced": "PhaseError.*ran under no_sync.*let it sync",
}


@pytest.mark.parametrize("name", WORDS)
def test_wrong_use_is_refused(ranks, name):
    for _, (found, x), _ in ranks:
        assert found[name] is not None
        assert re.search(WORDS[name], found[name], re.DOTALL), found[name]
        assert x == START


@pytest.mark.parametrize("name", ["no model", "bare net"])
def test_a_refused_model_is_left_alone(ranks, name):
    assert [r[1][0][f"{name} after"] for r in ranks] == [(START, None)] * 2


def test_another_model_in_ddp_is_nobodys_business(ranks):
    for rank, (_, (found, _), _) in enumerate(ranks):
        curvature, center = BATCHES["last at rest on both"][rank][0]
        up = RHO if center < START else -RHO
        assert found["teacher"] == pytest.approx(START - LR * curvature * (START + up - center), abs=1e-12)
