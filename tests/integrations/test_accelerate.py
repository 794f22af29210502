"""An Accelerate loop with `SAMBackward`: accumulation, clipping, overflow, checkpoints, telemetry, and what is refused."""

from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator, DistributedType
from tests.integrations.accelerate_case import (
    BATCHES,
    Parabola,
    by_hand,
    call,
    forget,
    made,
    run,
    weights,
)

import sharpmin as sm
from sharpmin.integrations import SAMBackward


@pytest.fixture(autouse=True)
def fresh():
    forget()


@pytest.mark.parametrize(("scope", "end"), [("global", 0.38), ("microbatch", 0.41)])
@pytest.mark.parametrize("clip", [None, 0.5])
def test_accumulation(scope, end, clip):
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    model = Parabola()
    opt = sm.SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.1, scope=scope, model=model)
    model, prepared = accelerator.prepare(model, opt)
    backward = SAMBackward(accelerator, prepared, model, call)
    losses = []
    for batch in BATCHES:
        with accelerator.accumulate(model):
            losses.append(backward(batch).item())
            if accelerator.sync_gradients and clip:
                accelerator.clip_grad_norm_(model.parameters(), clip)
            prepared.step()
            prepared.zero_grad()
    assert losses == [0.375, 6.125]
    assert model.x.item() == pytest.approx(0.5 - 0.1 * clip if clip else end, abs=1e-7 if clip else 1e-12)
    assert opt.last.passes == 2
    assert backward.sam is opt


def test_the_loop_is_the_hand_loop():
    parts = made()
    run(*parts)
    _, model, opt, *_ = parts
    assert model.body[1].num_batches_tracked == 6
    assert opt.param_groups[0]["lr"] == pytest.approx(0.1 / 8)
    assert all(map(torch.equal, weights(model), weights(by_hand()[0])))


def test_a_checkpoint_goes_on_exactly(tmp_path):
    parts = made()
    run(*parts)
    parts[0].save_state(str(tmp_path / "at"))
    run(*parts)
    ends = weights(parts[1])
    fresh_parts = made(rho=0.3)
    fresh_parts[0].load_state(str(tmp_path / "at"))
    run(*fresh_parts)
    assert all(map(torch.equal, weights(fresh_parts[1]), ends))
    assert fresh_parts[5].sam.param_groups[0]["rho"] == 0.2
    assert fresh_parts[5].sam.param_groups[0]["sharpmin_step"] == 6


def test_telemetry():
    parts = made(telemetry=True)
    probe = sm.watch(parts[5].sam)
    run(*parts)
    assert probe.step == 3
    assert [row["rho"] for row in probe.log.steps] == [0.2] * 3
    gg, dg, dd = (probe.log.steps[-1][k] for k in ("gg", "dg", "dd"))
    assert parts[5].sam.last.cosine == pytest.approx((gg + dg) / (gg * (gg + 2 * dg + dd)) ** 0.5)


@pytest.mark.parametrize("bad_pass", [1, 2])
def test_overflow_skips_once(bad_pass):
    """A CPU scaler put in by hand, since Accelerate refuses fp16 on a CPU."""
    accelerator = Accelerator(cpu=True)
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    model = Parabola()
    opt = sm.SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.1, model=model)
    model, prepared = accelerator.prepare(model, opt)
    passes = 0

    def spoilt(model, batch):
        nonlocal passes
        passes += 1
        return model(batch) * (float("inf") if passes == bad_pass else 1.0)

    backward = SAMBackward(accelerator, prepared, model, spoilt)
    seen, skipped = [], []
    for _ in range(2):
        with accelerator.accumulate(model):
            backward(BATCHES[0])
            prepared.step()
            prepared.zero_grad()
        seen.append((model.x.item(), accelerator.scaler.get_scale(), opt.last.stepped))
        skipped.append(accelerator.optimizer_step_was_skipped)
    assert skipped == [True, False]  # on a CPU; on an accelerator an overflow of the first pass does not show there
    assert seen[0] == (0.5, 512.0, False)
    assert seen[1] == (pytest.approx(0.5 + 0.1 * 3 * 0.6), 512.0, True)


@pytest.mark.parametrize(
    ("kind", "more", "words"),
    [
        (DistributedType.DEEPSPEED, {}, "no second pass is possible under DEEPSPEED"),
        (DistributedType.FSDP, {"is_fsdp2": False}, "set fsdp_version=2"),
        (DistributedType.NO, {"parallelism_config": SimpleNamespace(cp_enabled=True)}, "leave cp_size out"),
    ],
)
def test_backends_that_are_refused(kind, more, words):
    model = Parabola()
    opt = sm.SAM(torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(ValueError, match=words):
        SAMBackward(SimpleNamespace(distributed_type=kind, **more), opt, model, call)


def test_an_optimizer_without_sam_is_refused():
    model = Parabola()
    with pytest.raises(TypeError, match="optimizer=SGD holds no SAM"):
        SAMBackward(Accelerator(cpu=True), torch.optim.SGD(model.parameters(), lr=0.1), model, call)


def test_backends_are_named_as_accelerate_names_them():
    """The names that are refused exist."""
    from sharpmin.integrations._window import _FOREIGN

    assert set(_FOREIGN) <= {kind.value for kind in DistributedType}


def test_a_gate_leaves_the_second_pass_out():
    """It is closed: the usual gradient was far larger. The step is the base's, and every batch is run once."""
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    model = Parabola()
    opt = sm.ae_sam(torch.optim.SGD(model.parameters(), lr=0.1), 0.1, total=9)
    opt.param_groups[0]["sharpmin_rho_mean"] = 1e12
    model, prepared = accelerator.prepare(model, opt)
    seen = []
    backward = SAMBackward(accelerator, prepared, model, lambda model, batch: seen.append(batch) or call(model, batch))
    for batch in BATCHES:
        with accelerator.accumulate(model):
            backward(batch)
            prepared.step()
            prepared.zero_grad()
    assert seen == BATCHES
    assert (opt.last.steps, opt.last.climbed, opt.last.total_passes) == (1, 0, 1)
    assert model.x.item() == pytest.approx(0.5 - 0.1 * (3.0 * (0.5 - 1.0) + (0.5 + 3.0)) / 2, abs=1e-12)
