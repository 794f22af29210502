"""The host never waits for the GPU inside a step: torch's own check for synchronization is on, and an error."""

from contextlib import contextmanager

import pytest
import torch

import sharpmin as sm

SETTINGS = {
    "plain": {},
    "model": {"model": True},
    "asam": {"geometry": sm.Elementwise(0.01)},
    "layerwise": {"geometry": sm.Layerwise()},
    "linf": {"geometry": sm.LInf()},
    "clipped": {"descent": sm.ClippedDifference(0.5)},
    "mix": {"descent": sm.Mix(0.5)},
    "ema": {"ascent": sm.Ema()},
    "momentum": {"ascent": sm.Momentum()},
    "unnormalized": {"rho": sm.rho.Unnormalized(0.1)},
    "capped": {"rho": sm.rho.Capped(0.1, c=0.5)},
    "every": {"rho": sm.rho.Every(0.1, 2)},
    "telemetry": {"model": True, "telemetry": True},
    "clipped, telemetry": {"descent": sm.ClippedDifference(0.5), "telemetry": True},
    "asam, telemetry": {"geometry": sm.Elementwise(0.01), "telemetry": True},
    "bfloat16": {"dtype": torch.bfloat16, "model": True},
    "bfloat16, telemetry": {"dtype": torch.bfloat16, "model": True, "telemetry": True},
    "bfloat16, stochastic": {"dtype": torch.bfloat16, "rounding": "stochastic"},
    "watch": {"watch": True},
    "watch, mix": {"watch": True, "descent": sm.Mix(0.5)},
    "watch, bfloat16": {"watch": True, "dtype": torch.bfloat16},
}
BASES = {
    "sgd": lambda ps: torch.optim.SGD(ps, lr=0.05, momentum=0.9),
    "adamw": lambda ps: torch.optim.AdamW(ps, lr=1e-3, fused=True),
}
FIRST = 4  # steps in which tables may still be brought to the device, and two of which are sketched
pytestmark = pytest.mark.filterwarnings("ignore:SAM. only .* of the ascent survives")  # seen when the report is read


@contextmanager
def no_waiting(device):
    """An operation that waits for the GPU raises; on the CPU there is nothing to wait for."""
    if device == "cpu":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("name", SETTINGS)
def test_a_step(name, base, device, training, same_bits):
    options = {"rho": 0.05, **SETTINGS[name]}
    dtype, watched = options.pop("dtype", torch.float32), options.pop("watch", False)
    model, data = training.net(device, dtype), training.batches(device, dtype)
    if options.pop("model", False):
        options["model"] = model
    opt = sm.SAM(BASES[base](model.parameters()), **options)
    probe = sm.watch(opt, every=2, block=1000) if watched else None
    start = [p.detach().clone() for p in model.parameters()]
    for x, y in data[:FIRST]:
        training.sam_step(opt, model, x, y)
    with no_waiting(device):
        for x, y in data[FIRST:]:
            training.sam_step(opt, model, x, y)
    assert all(p.isfinite().all() for p in model.parameters())
    assert not same_bits(list(model.parameters()), start)
    assert opt.last.stepped
    assert opt.param_groups[0]["sharpmin_step"] == len(data)
    assert probe is None or probe.step == len(data)


@pytest.mark.gpu
def test_a_wait_is_seen(training):
    """A read of a number is, and so is the one read a step of `skip_nonfinite=True`."""
    model, data = training.net("cuda"), training.batches("cuda")
    opt = sm.SAM(torch.optim.SGD(model.parameters(), lr=0.05), rho=0.05, skip_nonfinite=True)
    training.sam_step(opt, model, *data[0])
    with no_waiting("cuda"), pytest.raises(RuntimeError, match="synchronizing"):
        training.sam_step(opt, model, *data[1])
    with no_waiting("cuda"), pytest.raises(RuntimeError, match="synchronizing"):
        float(data[0][0].sum())
