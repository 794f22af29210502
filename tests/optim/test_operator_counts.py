"""How many operators a step dispatches per tensor beyond its passes and the base's step: each is a launch, or work of the host.

Counted on torch's device "meta", which takes the path of an accelerator and needs none.
"""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import sharpmin as sm
from sharpmin.optim._numeric import foreach
from sharpmin.optim._numeric.rounding import StochasticRounding

STEPS = 16  # of which the second of a training is one
BARS = {  # operators per tensor; one of them makes the copy of w
    "sam": (1.2, {}),
    "bf16": (1.5, {"dtype": torch.bfloat16}),
    "fp16": (1.5, {"dtype": torch.float16}),
    "float64": (1.2, {"dtype": torch.float64}),
    "stochastic rounding": (1.5, {"dtype": torch.bfloat16, "rounding": "stochastic"}),
    "elementwise": (2.5, {"geometry": sm.Elementwise()}),
    "elementwise matrices": (2.5, {"geometry": sm.Elementwise(adapt=lambda w: w.dim() > 1)}),
    "layerwise": (2.5, {"geometry": sm.Layerwise()}),
    "linf": (1.2, {"geometry": sm.LInf()}),
    "clipped": (2.5, {"descent": sm.ClippedDifference()}),
    "mix": (1.2, {"descent": sm.Mix(0.3)}),
    "ema": (2.5, {"ascent": sm.Ema()}),
    "friendly": (2.5, {"ascent": sm.Residual()}),
    "momentum": (1.2, {"ascent": sm.Momentum()}),
    "gsam": (1.2, {"descent": sm.SurrogateGap()}),
    "stable": (1.2, {"descent": sm.Renormalized()}),
    "unnormalized": (1.2, {"rho": sm.rho.Unnormalized(0.05)}),
    "telemetry": (2.5, {"telemetry": True}),
    "watch": (4.0, {"watch": 8}),
    "watch with AdamW": (4.0, {"watch": 8, "base": torch.optim.AdamW}),
    "maximize": (1.2, {"maximize": True}),
}


@pytest.fixture(autouse=True)
def generators(monkeypatch):
    """This device has no generator of random numbers; one for the host makes tensors without values, too."""
    monkeypatch.setattr(StochasticRounding, "_on", lambda self, device: torch.Generator())


class Count(TorchDispatchMode):
    """Counts what is dispatched inside."""

    calls = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.calls += 1
        return function(*args, **(kwargs or {}))


def beyond(layers, *, dtype=torch.float32, watch=0, base=torch.optim.SGD, maximize=False, rho=0.05, **options):
    """The operators of a step beyond its passes and the base's step, on average of `STEPS` steps after the first.

    From the third on they repeat: four of them say the same as fifteen, and with `watch` a round of sketches does.
    """
    net = nn.Sequential(*(nn.Linear(8, 8) for _ in range(layers))).to("meta", dtype)
    momentum = {"momentum": 0.9} if base is torch.optim.SGD else {}
    inner = base(net.parameters(), lr=0.1, foreach=True, maximize=maximize, **momentum)
    opt, x = sm.SAM(inner, rho=rho, **options), torch.randn(4, 8, device="meta", dtype=dtype)
    if watch:
        sm.watch(opt, every=watch, block=10**9)

    def backward():
        net(x).square().mean().backward()

    counts, settled = [], watch or 4
    for _ in range(2 + settled):
        opt.zero_grad()
        if opt.ascent.needs_clean:
            backward()
        with (counter := Count()):
            opt.perturb()
        backward()
        with counter:
            opt.restore()
            opt.step()
        counts.append(counter.calls)
    backward()
    with (alone := Count()):
        inner.step()
    return (counts[1] + (STEPS - 1) * sum(counts[2:]) / settled) / STEPS - alone.calls


def growth(**case):
    """Operators per tensor: what four more tensors add."""
    return (beyond(4, **case) - beyond(2, **case)) / 4


@pytest.mark.parametrize("name", BARS)
def test_operators_per_tensor(name):
    bar, case = BARS[name]
    assert growth(**case) <= bar


@pytest.mark.parametrize("name", BARS)
def test_the_plain_loops_are_above_every_bar(name, monkeypatch):
    monkeypatch.setattr(foreach, "serves", lambda *_: False)
    bar, case = BARS[name]
    assert growth(**case) > bar


@pytest.mark.parametrize("name", ["sam", "bf16", "elementwise", "telemetry"])
def test_a_small_net_pays_little(name):
    bar, case = BARS[name]
    assert beyond(20, **case) <= 40 * bar + 80


def test_buffers_of_a_model():
    """Statistics of 60 BatchNorms, three buffers each: one operator to make the copy of each, and a few for all."""

    def calls(layers):
        net = nn.Sequential(*(nn.BatchNorm1d(8) for _ in range(layers))).to("meta")
        opt, x = sm.SAM(torch.optim.SGD(net.parameters(), lr=0.1), rho=0.05, model=net), torch.randn(4, 8, device="meta")
        for _ in range(2):  # the first step cuts the scratch memory
            opt.zero_grad()
            net(x).square().mean().backward()
            with Count() as counter:
                opt.perturb()
            net(x).square().mean().backward()
            with counter:
                opt.restore()
            opt.step()
        return counter.calls

    per_layer = (calls(60) - calls(30)) / 30
    assert per_layer <= 2 * 1 + 3 * 1  # copies of two weights and of three buffers
