"""Gradients whose memory belongs to somebody, who writes the second ones into it: nothing may differ from a run without."""

import pytest
import torch
from torch import nn

import sharpmin as sm


def flat(net):
    """One line for all gradients, into which a hook moves each: as buckets and static buffers do."""
    line = torch.zeros(sum(p.numel() for p in net.parameters()), dtype=torch.float64)
    at = 0
    for p in net.parameters():
        own = line[at : at + p.numel()].view_as(p)
        at += p.numel()

        def move(p, own=own):
            if p.grad is not own:
                own.copy_(p.grad)
                p.grad = own

        p.register_post_accumulate_grad_hook(move)
    return line


def static(net):
    """A buffer of its own for each gradient, no views."""
    for p in net.parameters():
        own = torch.zeros_like(p)

        def move(p, own=own):
            if p.grad is not own:
                own.copy_(p.grad)
                p.grad = own

        p.register_post_accumulate_grad_hook(move)


def loop(net):
    """The loop itself moves them after every backward pass, and no hook says so."""
    line = torch.zeros(sum(p.numel() for p in net.parameters()), dtype=torch.float64)

    def after():
        at = 0
        for p in net.parameters():
            if p.grad is not None:
                own = line[at : at + p.numel()].view_as(p)
                own.copy_(p.grad)
                p.grad = own
            at += p.numel()

    return after


OWNERS = {"flat": flat, "static": static, "loop": loop}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Dropout(0.3), nn.Linear(6, 3)).double()


def train(owner, steps=4, trained=slice(None), rho=0.3, **options):
    net = network()
    after = OWNERS[owner](net) if owner else None
    model = {"model": net} if trained != slice(None) else {}
    opt = sm.SAM(torch.optim.SGD(net[trained].parameters(), lr=0.2, momentum=0.9), rho=rho, **model, **options)
    probe = None if options.get("scope") else sm.watch(opt, every=1, block=2)
    told, others = [], []
    torch.manual_seed(5)
    generator = torch.Generator().manual_seed(1)
    micros = 2 if options.get("scope") else 1
    for _ in range(steps):
        opt.zero_grad()
        net.zero_grad()
        for _ in range(micros):
            x, y = torch.randn(8, 4, generator=generator).double(), torch.randint(3, (8,), generator=generator)

            def backward(x=x, y=y):
                nn.functional.cross_entropy(net(x), y).backward()
                if callable(after):
                    after()

            with opt.clean():
                backward()
            with opt.perturbed():
                backward()
        opt.step()
        told.append(opt.last)
        others.append([None if p.grad is None else p.grad.clone() for p in net.parameters()])
    if probe is not None:
        probe.close()
        told.append([{k: row[k] for k in ("gg", "dg", "dd")} for row in probe.log.steps])
    return [p.detach() for p in net.parameters()], told, others


CASES = {
    "mix": {"descent": sm.Mix(0.3)},
    "clipped": {"descent": sm.ClippedDifference(0.1)},
    "telemetry": {"telemetry": True},
    "rho = 0": {"rho": 0.0},
    "microbatch": {"scope": "microbatch"},
    "others": {"trained": slice(3, 4)},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("owner", OWNERS)
def test_equal_to_the_run_without(owner, case):
    wanted, found = train(None, **CASES[case]), train(owner, **CASES[case])
    assert all(map(torch.equal, found[0], wanted[0]))
    assert found[1] == wanted[1]
    for one, other in zip(found[2], wanted[2], strict=True):
        assert all(a is b or torch.equal(a, b) for a, b in zip(one, other, strict=True))


def by_hand(owner, equal_first):
    """A SAM that is not ours, watched; with `equal_first` its first steps have no radius, so both gradients are equal."""
    net = network()
    after = OWNERS[owner](net) if owner else None
    base = torch.optim.SGD(net.parameters(), lr=0.2)
    probe = sm.watch(net, rho=0.3, optimizer=base, every=1, block=2)
    x, y = torch.linspace(-1, 1, 32).double().view(8, 4), torch.arange(8) % 3
    for i in range(6):

        def backward():
            base.zero_grad()
            torch.manual_seed(0)
            nn.functional.cross_entropy(net(x), y).backward()
            if callable(after):
                after()

        backward()
        probe.clean()
        w = [p.detach().clone() for p in net.parameters()]
        norm = sum((p.grad**2).sum() for p in net.parameters()) ** 0.5
        with torch.no_grad():
            for p in net.parameters():
                p.add_(p.grad / norm, alpha=0.0 if i < equal_first else 0.3)
        backward()
        probe.perturbed()
        with torch.no_grad():
            for p, was in zip(net.parameters(), w, strict=True):
                p.copy_(was)
        base.step()
    probe.close()
    return [{k: row[k] for k in ("step", "gg", "dg", "dd")} for row in probe.log.steps], probe.log.remarks


@pytest.mark.parametrize("equal_first", [0, 2])
@pytest.mark.parametrize("owner", OWNERS)
def test_a_loop_that_is_not_ours(owner, equal_first):
    rows, remarks = by_hand(owner, equal_first)
    wanted, _ = by_hand(None, equal_first)
    assert rows == wanted
    assert rows[-1]["dd"] > 0
    assert remarks == []
