"""BatchNorm statistics, which the second pass must not change, and dropout masks, which it must draw again."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from .._case import Fault, NotOffered, family, require
from .._shared import around, passes
from .._shared.scene import Played, played
from .._trial import Holder, Quadratic, Trial, backward, near, show


def _pass(bn: nn.BatchNorm1d, *rows: float) -> Tensor:
    return backward(_loss(bn, *rows))


def _loss(bn: nn.BatchNorm1d, *rows: float) -> Tensor:
    loss: Tensor = bn(torch.tensor(rows)[:, None]).square().sum()
    return loss


def _rows(bn: nn.BatchNorm1d, rows: tuple[float, ...], _: int) -> Tensor:
    return _pass(bn, *rows)


@family(
    "batchnorm-once",
    "BatchNorm statistics move once a step",
    right="the buffers that one pass leaves: mean 0.2, variance 1.1, 1 batch",
    fix="put the buffers back after the second pass (ours: pass model=model)",
    faults=(14,),
)
def batchnorm_once(t: Trial) -> str:
    """Batch 1, 3 at momentum 0.1: mean 0.1 * 2, variance 0.9 + 0.1 * 2."""
    t.need_model()
    return passes.buffers_once(_normed(t), _normed(t))


def _normed(t: Trial) -> Played:
    bn = nn.BatchNorm1d(1)
    return played(t, bn, lambda _: _loss(bn, 1.0, 3.0))


@family(
    "batchnorm-cumulative",
    "BatchNorm with momentum=None: the mean over the batches",
    right="mean 4 after the batches 1, 3 and 5, 7",
    fix="put the buffers back by copy, num_batches_tracked too, instead of a momentum of 0",
    faults=(14,),
)
def batchnorm_cumulative(t: Trial) -> str:
    """Every batch counts once."""
    t.need_model()
    bn = nn.BatchNorm1d(1, momentum=None)
    opt = t.make(list(bn.parameters()), model=bn)
    for rows in ((1.0, 3.0), (5.0, 7.0)):
        t.step(opt, partial(_rows, bn, rows))
    mean = bn.running_mean if bn.running_mean is not None else torch.zeros(1)
    require(near(mean, (4.0,), 1e-6), f"mean {show(mean)}")
    return f"mean {show(mean)}"


@family(
    "batchnorm-after-error",
    "An exception in the second pass leaves BatchNorm as it was",
    right="momentum 0.1, and the next batch counts",
    fix="leave momentum alone; put buffers back in a finally clause",
    faults=(14, 5),
)
def batchnorm_after_error(t: Trial) -> str:
    """Helpers that set the momentum to 0 get stuck there."""
    t.need_model()
    bn, fails = nn.BatchNorm1d(1), True
    opt = t.make(list(bn.parameters()), model=bn)

    def run(k: int) -> Tensor:
        if k == 2 and fails:
            raise RuntimeError("out of memory")
        return _pass(bn, 1.0, 3.0)

    try:
        t.step(opt, run)
    except RuntimeError:
        pass
    else:
        raise Fault("the exception was swallowed", "the exception reaches the caller")
    fails = False
    t.go_on(opt, run)
    mean = bn.running_mean if bn.running_mean is not None else torch.zeros(1)
    seen = f"momentum {bn.momentum}, mean {show(mean)}"
    require(bn.momentum == 0.1 and near(mean, (0.38,), 1e-6), seen, "momentum 0.1, mean 0.38")
    return seen


@family(
    "same-mask",
    "Both passes see the same dropout mask",
    right="equal masks, and the random state of one pass afterwards",
    fix="set the generators back before the second pass, and forward again after it (ours: clean(), or a closure)",
    faults=(24,),
)
def same_mask(t: Trial) -> str:
    """Otherwise the second gradient is that of another function."""
    if t.door == "two-step":
        raise NotOffered("first_step() comes after the first forward pass, so the random state before it is the caller's")
    if t.door == "closure-after-backward":
        raise NotOffered("the caller does the first forward pass, so the random state before it is the caller's")
    return passes.same_mask(_dropped(t), _dropped(t))


def _dropped(t: Trial) -> Played:
    w = nn.Parameter(torch.ones(256))
    return played(t, Holder([w]), lambda _: nn.functional.dropout(w, 0.5).square().sum())


@family(
    "outside-gradients",
    "Parameters outside the optimizer get the gradient of one pass",
    right="a gradient of 3, that of the first pass",
    fix="put the gradients of the model's other parameters back after the second pass",
    faults=(36,),
)
def outside_gradients(t: Trial) -> str:
    """f + v w1 at v = 0, where the optimizer has w alone: the gradient of v is 3 in the first pass, 3.3 in the second."""
    t.need_model("its other parameters are")
    f = Quadratic.new()
    model = Holder([f.w, nn.Parameter(torch.zeros((), dtype=torch.float64))])
    v = list(model.parameters())[1]
    opt = t.make([f.w], model=model)
    return around.outside(Played(model, opt, t.door, lambda _: f.loss() + v * f.w[0]))
