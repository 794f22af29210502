"""Loss scaling: both passes under one `GradScaler`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.amp import GradScaler

from .._case import Fault, NotOffered, family, raised, require
from .._doors import counted, first_step
from .._trial import Quadratic, Trial, backward, near, same, show

SCALE = 65536.0


def _scaled(f: Quadratic, scaler: GradScaler, k: int) -> Tensor:
    f.visited.append(f.w.detach().clone())
    loss = f.loss()
    backward(scaler.scale(loss))
    if f.spoil is not None:
        f.spoil(k)
    return loss


def _ours(opt: Any, scaler: GradScaler, f: Quadratic) -> None:
    opt.zero_grad()
    _scaled(f, scaler, 1)
    with opt.perturbed(scaler):
        _scaled(f, scaler, 2)
    scaler.step(opt)


def _two_step(opt: Any, scaler: GradScaler, f: Quadratic) -> None:
    opt.zero_grad()
    _scaled(f, scaler, 1)
    scaler.unscale_(opt)
    first_step(opt)
    _scaled(f, scaler, 2)
    scaler.unscale_(opt)
    opt.second_step()


def _closure(opt: Any, scaler: GradScaler, f: Quadratic) -> None:
    scaler.scale(torch.zeros(1))  # as if it had been used before
    scaler.step(opt, counted(opt, lambda k: _scaled(f, scaler, k)))


def _closure_after_backward(opt: Any, scaler: GradScaler, f: Quadratic) -> None:
    opt.zero_grad()
    _scaled(f, scaler, 1)
    scaler.step(opt, counted(opt, lambda k: _scaled(f, scaler, k), done=1))


LOOPS = {
    "block": _ours,
    "clean": _ours,
    "two-step": _two_step,
    "closure": _closure,
    "closure-after-backward": _closure_after_backward,
}


def _step(t: Trial, opt: Any, scaler: GradScaler, f: Quadratic) -> None:
    (_ours if t.ours else LOOPS[t.door])(opt, scaler, f)
    scaler.update()


@family(
    "loss-scaling",
    "The usual loop with a GradScaler gives the golden step",
    right="w' = (2.67, 0.44), scale 65536",
    fix="let the first pass be unscaled under another optimizer's name, such as the base's",
    faults=(13,),
)
def loss_scaling(t: Trial) -> str:
    """A scaler allows one unscaling per optimizer and update, and SAM has two passes."""
    f = Quadratic.new(torch.float32)
    scaler = GradScaler("cpu", init_scale=SCALE)
    try:
        _step(t, t.make([f.w]), scaler, f)
    except Exception as error:
        raise Fault(raised(error)) from None
    seen = f"w' = {show(f.w)}, scale {scaler.get_scale():g}"
    require(near(f.w, (2.67, 0.44), 1e-5) and scaler.get_scale() == SCALE, seen)
    return seen


@family(
    "loss-scaling-overflow",
    "An overflow in either pass: nothing moves, the scale is halved once",
    right="w' = (3, 1), momentum unchanged, scale 32768",
    fix="remember an overflow of the first pass, and skip the step for either",
    faults=(13, 12),
)
def loss_scaling_overflow(t: Trial) -> str:
    """inf in the first gradients, then in the second."""
    try:
        loss_scaling(t)
    except Fault as fault:
        raise NotOffered(f"needs the loop of loss-scaling: {fault.observed}") from None
    for at in (1, 2):
        f = Quadratic.new(torch.float32)
        opt, scaler = t.make([f.w], options={"momentum": 0.9}), GradScaler("cpu", init_scale=SCALE)
        _step(t, opt, scaler, f)
        f.reset()
        before = _momentum(opt)

        def spoil(k: int, at: int = at, f: Quadratic = f) -> None:
            if k == at and f.w.grad is not None:
                f.w.grad[0] = float("inf")

        f.spoil = spoil
        _step(t, opt, scaler, f)
        seen = f"inf in pass {at}: w' = {show(f.w)}, scale {scaler.get_scale():g}"
        require(same(f.w, torch.tensor([3.0, 1.0])) and scaler.get_scale() == SCALE / 2, seen)
        require(same(_momentum(opt), before), f"inf in pass {at}: the state of the base changed")
    return seen


def _momentum(opt: Any) -> list[Tensor]:
    """The momentum buffers, copied."""
    return [
        entry["momentum_buffer"].clone()
        for entry in getattr(opt, "state", {}).values()
        if isinstance(entry, dict) and isinstance(entry.get("momentum_buffer"), Tensor)
    ]
