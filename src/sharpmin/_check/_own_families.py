"""What can be asked of a set-up of one's own. Each function gets fresh copies of it, and returns what it saw."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import StepLR
from torch.optim.optimizer import Optimizer

from sharpmin.optim import SAM
from sharpmin.optim._effects.rng import RandomState

from ._case import Fault, NotApplicable, NotOffered, demand
from ._setup import Setup
from ._trial import copies, difference, same

LEAST_GAIN = 0.9
Fresh = Callable[[], Setup]


@dataclass(frozen=True)
class Question:
    """A family of the own set-up: `fix` answers for our SAM, `fix_other` for others."""

    id: str
    title: str
    right: str
    fix: str
    fix_other: str
    ask: Callable[[Fresh], str]


def ascent(fresh: Fresh) -> str:
    """The second pass runs somewhere else, and what rounding leaves of the way there."""
    s, seen = fresh(), []
    s.hold()
    _need_two_passes(s.opt)
    s.passes = lambda k, when: seen.append(copies(s.weights)) if when == "before" else None
    s.step()
    demand(len(seen) > 1, "one pass only", "two passes")
    moved = sum(float((a.double() - b.double()).square().sum()) for a, b in zip(seen[0], seen[1], strict=True)) ** 0.5
    demand(moved > 0, "the second pass runs at w: nothing moved")
    gain = s.opt.last.gain if isinstance(s.opt, SAM) else None
    demand(gain is None or gain > LEAST_GAIN, f"{gain or 0.0:.0%} of the ascent survive the rounding of the weights")
    return f"||e|| = {moved:.3g}"


def _need_two_passes(opt: Any) -> None:
    if isinstance(opt, SAM) and not opt.ascent.needs_clean:
        raise NotApplicable("this ascent takes one pass a step")
    if isinstance(opt, SAM) and not opt.needs_second_pass:
        raise NotApplicable("rho is 0 at this step")


def rho_zero(fresh: Fresh) -> str:
    """Two steps with rho = 0 against two steps of the base optimizer."""
    s, bare = fresh(), fresh()
    base = bare.need_base()
    _without_radius(s.opt)
    random = RandomState(s.weights)
    for _ in range(2):
        s.step()
    random.put_back()
    for _ in range(2):
        bare.opt.zero_grad()
        bare.run(1)
        base.step()
    ours, theirs = copies(s.weights), copies(bare.weights)
    demand(same(ours, theirs), f"the weights differ by {difference(ours, theirs)} after two steps")
    return "equal"


def _without_radius(opt: Any) -> None:
    groups = [group for group in opt.param_groups if "rho" in group]
    for group in groups:
        group["rho"] = 0.0
    own = isinstance(getattr(opt, "rho", None), float | int)
    if own:
        opt.rho = 0.0
    if not groups and not own:
        raise NotOffered("no rho could be found to set to 0")


def restore_exact(fresh: Fresh) -> str:
    """A step whose base does not step."""
    s = fresh()
    s.hold()
    was = copies(s.weights)
    s.step()
    now = copies(s.weights)
    demand(same(was, now), f"the weights differ by {difference(was, now)} after a step in which the base did not step")
    return "bit for bit"


class _Stop(Exception):
    """Thrown into a second pass."""


def second_pass_error(fresh: Fresh) -> str:
    """An exception in the second pass, as an out-of-memory error would be."""
    s = fresh()
    s.hold()
    was, passes = copies(s.weights), 0

    def stop(k: int, when: str) -> None:
        nonlocal passes
        passes += when == "before"
        if when == "after" and passes == 2:
            raise _Stop

    s.passes = stop
    try:
        s.step()
    except _Stop:
        pass
    else:
        raise NotApplicable("there was no second pass")
    s.passes = None
    if s.door == "two-step":
        if isinstance(s.opt, SAM):
            s.opt.abort()
        else:
            s.step()
    now = copies(s.weights)
    demand(same(was, now), f"the weights differ by {difference(was, now)}")
    return "bit for bit"


def buffers_once(fresh: Fresh) -> str:
    """The buffers after a step against those after one pass."""
    s, once = fresh(), fresh()
    s.hold()
    random, before = RandomState(s.weights), copies(once.model.buffers())
    once.run(1)
    names = [name for name, _ in once.model.named_buffers()]
    right = copies(once.model.buffers())
    if same(before, right):
        raise NotApplicable("no buffer of the model moves in a pass")
    random.put_back()
    s.step()
    wrong = [name for name, a, b in zip(names, copies(s.model.buffers()), right, strict=True) if not same(a, b)]
    counted = [name for name in wrong if name.endswith("num_batches_tracked")]
    counts = f", {counted[0]} counts {int(dict(s.model.named_buffers())[counted[0]])}" if counted else ""
    demand(not wrong, f"{len(wrong)} of {len(names)} buffers are not those of one pass: {wrong[0] if wrong else ''}{counts}")
    return "those of one pass"


def same_mask(fresh: Fresh) -> str:
    """Where the random numbers of the two passes begin."""
    s, starts = fresh(), []
    s.hold()
    _need_two_passes(s.opt)
    first = RandomState(s.weights)
    once = fresh()
    once.run(1)
    if _equal(first, RandomState(s.weights)):
        raise NotApplicable("a pass draws no random numbers from torch's generators")
    first.put_back()
    s.passes = lambda k, when: starts.append(RandomState(s.weights)) if when == "before" else None
    s.step()
    if len(starts) == 1:
        raise NotApplicable("the step had one pass")
    demand(_equal(starts[0], starts[1]), "the second pass goes on where the first one ended")
    return "equal"


def _equal(a: RandomState, b: RandomState) -> bool:
    return bool(torch.equal(a._cpu, b._cpu)) and same(list(a._devices.values()), list(b._devices.values()))


def scheduler_linked(fresh: Fresh) -> str:
    """A scheduler on the optimizer, before and after load_state_dict."""
    s = fresh()
    base = s.need_base()
    if not isinstance(s.opt, Optimizer):
        raise NotOffered("is no torch.optim.Optimizer, which a scheduler demands; attach it to the base")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler = StepLR(s.opt, 1, 0.1)
        for where in ("", " after load_state_dict"):
            before = [float(group["lr"]) for group in base.param_groups]
            s.step()
            scheduler.step()
            after = [float(group["lr"]) for group in base.param_groups]
            wrong = [(a, b) for a, b in zip(before, after, strict=True) if abs(b - 0.1 * a) > 1e-9 * abs(a)]
            demand(not wrong, f"the base's lr goes from {wrong[0][0]:g} to {wrong[0][1]:g}{where}" if wrong else "")
            s.opt.load_state_dict(s.opt.state_dict())
    return "a tenth each time"


def resume(fresh: Fresh) -> str:
    """Save after a step, load into an optimizer whose state is gone, and take another."""
    s, again = fresh(), fresh()
    s.step()
    file = io.BytesIO()
    torch.save(s.opt.state_dict(), file)
    file.seek(0)
    values, random = copies([*s.weights, *s.model.buffers()]), RandomState(s.weights)
    s.step()
    for part in (again.opt, again.base):
        getattr(part, "state", {}).clear()
    with torch.no_grad():
        for tensor, value in zip([*again.weights, *again.model.buffers()], values, strict=True):
            tensor.copy_(value)
    again.opt.load_state_dict(torch.load(file, weights_only=False))
    random.put_back()
    again.step()
    unbroken, resumed = copies(s.weights), copies(again.weights)
    demand(same(unbroken, resumed), f"the weights differ by {difference(unbroken, resumed)} one step after loading")
    return "equal"


def finite(fresh: Fresh) -> str:
    """Whether the rest can mean anything."""
    s = fresh()
    loss: Tensor = s.run(1)
    demand(bool(torch.isfinite(loss)), f"loss {float(loss)}")
    bad = [name for name, p in s.model.named_parameters() if p.grad is not None and not _finite(p.grad)]
    if bad:
        raise Fault(f"the gradient of {bad[0]} is not finite")
    return f"loss {float(loss):.4g}"


def _finite(grad: Tensor) -> bool:
    return bool(torch.isfinite(grad.coalesce().values() if grad.is_sparse else grad).all())
