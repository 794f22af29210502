"""What the second pass must not change, or must see again: BatchNorm statistics and dropout masks."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from .._case import Fault, NotOffered, demand, family
from .._trial import Trial, backward, near, show


def _pass(bn: nn.BatchNorm1d, *rows: float) -> Tensor:
    loss: Tensor = bn(torch.tensor(rows)[:, None]).square().sum()
    return backward(loss)


def _rows(bn: nn.BatchNorm1d, rows: tuple[float, ...], _: int) -> Tensor:
    return _pass(bn, *rows)


@family(
    "batchnorm-once",
    "BatchNorm statistics move once a step",
    right="mean 0.2, variance 1.1, 1 batch",
    fix="put the buffers back after the second pass (ours: pass model=model)",
    faults=(14,),
)
def batchnorm_once(t: Trial) -> str:
    """Batch 1, 3 at momentum 0.1: mean 0.1 * 2, variance 0.9 + 0.1 * 2."""
    t.need_model()
    bn = nn.BatchNorm1d(1)
    opt = t.make(list(bn.parameters()), model=bn)
    t.step(opt, lambda _: _pass(bn, 1.0, 3.0))
    numbers = [x for x in (bn.running_mean, bn.running_var, bn.num_batches_tracked) if x is not None]
    seen = f"mean {show(numbers[0])}, variance {show(numbers[1])}, {show(numbers[2])} batches"
    demand(near(torch.stack([x.double().reshape(()) for x in numbers]), (0.2, 1.1, 1.0), 1e-6), seen)
    return seen


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
    demand(near(mean, (4.0,), 1e-6), f"mean {show(mean)}")
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
    demand(bn.momentum == 0.1 and near(mean, (0.38,), 1e-6), seen, "momentum 0.1, mean 0.38")
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
    w, masks = nn.Parameter(torch.ones(256)), []

    def run(_: int) -> Tensor:
        dropped = nn.functional.dropout(w, 0.5)
        masks.append(dropped.detach() > 0)
        loss = dropped.square().sum()
        return backward(loss)

    opt = t.make([w])
    before = torch.get_rng_state()
    t.step(opt, run)
    after = torch.get_rng_state()
    torch.set_rng_state(before)
    nn.functional.dropout(torch.ones(256), 0.5)
    unequal = int((masks[0] != masks[-1]).sum())
    demand(unequal == 0, f"the masks differ in {unequal} of 256 entries")
    demand(torch.equal(after, torch.get_rng_state()), "the random state afterwards is not that of one pass")
    return "equal masks"
