"""The families of `sharpmin.check`. Each is a function that gets fresh copies of the set-up and returns its observation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sharpmin.optim import SAM
from sharpmin.optim._effects.rng import RandomState

from ._case import Fault, NotApplicable, NotOffered, require
from ._setup import Setup
from ._shared import around, back, passes
from ._shared.scene import length
from ._trial import copies, difference, same

LEAST_GAIN = 0.9
TRIED = 10
"""Steps that `first_steps` takes on the one batch."""
LEAST_FALL, LEAST_SHARE = 0.1, 0.2
"""Shares: of the loss that the steps with rho = 0 must gain, and of that gain that SAM must reach."""
Fresh = Callable[[], Setup]


@dataclass(frozen=True)
class Question:
    """A family for a set-up: `fix` is for our SAM, `fix_other` for others."""

    id: str
    title: str
    right: str
    fix: str
    fix_other: str
    ask: Callable[[Fresh], str]


def finite(fresh: Fresh) -> str:
    """Loss and gradients are finite, without which the other families mean nothing."""
    s = fresh()
    loss: Tensor = s.run(1)
    require(bool(torch.isfinite(loss)), f"loss {float(loss)}")
    bad = [name for name, p in s.model.named_parameters() if p.grad is not None and not _finite(p.grad)]
    if bad:
        raise Fault(f"the gradient of {bad[0]} is not finite")
    return f"loss {float(loss):.4g}"


def _finite(grad: Tensor) -> bool:
    return bool(torch.isfinite(grad.coalesce().values() if grad.is_sparse else grad).all())


def ascent(fresh: Fresh) -> str:
    """The second pass runs at other weights, and rounding keeps most of the perturbation."""
    s = fresh()
    s.hold()
    _need_two_passes(s.opt)
    if isinstance(s.opt, SAM):
        s.opt.telemetry = True  # so that the gain is measured at this step
    seen = s.at_passes()
    s.step()
    require(len(seen) > 1, "one pass only", "two passes")
    moved = length(seen[0], seen[1])
    require(moved > 0, "the second pass runs at w: nothing moved")
    gain = s.opt.last.gain if isinstance(s.opt, SAM) else None
    require(gain is None or gain > LEAST_GAIN, f"{gain or 0.0:.0%} of the perturbation survives the rounding of the weights")
    return f"||e|| = {moved:.3g}"


def _need_two_passes(opt: Any) -> None:
    _need_first_pass(opt)
    if isinstance(opt, SAM) and not opt.needs_second_pass:
        raise NotApplicable("rho is 0 at this step")


def _need_first_pass(opt: Any) -> None:
    if isinstance(opt, SAM) and not opt.ascent.needs_clean:
        raise NotApplicable("this ascent takes one pass a step")


def rho_zero(fresh: Fresh) -> str:
    """Two steps with rho = 0 against two steps of the base optimizer."""
    s, bare = fresh(), fresh()
    base = bare.need_base()
    _without_radius(s.opt)
    return passes.rho_zero(s, bare, base, 2)


def _without_radius(opt: Any) -> None:
    groups = [group for group in opt.param_groups if "rho" in group]
    for group in groups:
        group["rho"] = 0.0
    own = isinstance(getattr(opt, "rho", None), float | int)
    if own:
        opt.rho = 0.0
    if not groups and not own:
        raise NotOffered("no rho could be found to set to 0")


def first_steps(fresh: Fresh) -> str:
    """Some steps on this batch against as many with rho = 0: a far too large rho keeps the loss from falling."""
    s, free = fresh(), fresh()
    _need_first_pass(s.opt)
    _without_radius(free.opt)
    random, ends = RandomState(s.weights), []
    start = _loss(fresh())
    for one in (s, free):
        random.put_back()  # so that both runs and all losses have the same dropout masks
        for _ in range(TRIED):
            one.step()
        random.put_back()
        ends.append(_loss(one))
    held, without = ends
    seen = f"{TRIED} steps on this batch bring the loss from {start:.4g} to {held:.4g}, with rho = 0 to {without:.4g}"
    require(start - without <= LEAST_FALL * abs(start) or start - held >= LEAST_SHARE * (start - without), seen)
    return seen


def _loss(s: Setup) -> float:
    with torch.no_grad():
        return float(s.loss(1))


def restore_exact(fresh: Fresh) -> str:
    """A step whose base does not step."""
    s = fresh()
    s.hold()
    return back.restore(s, 1)


def second_pass_error(fresh: Fresh) -> str:
    """An exception in the second pass."""
    s = fresh()
    s.hold()
    return back.second_pass_error(s)


def base_step_error(fresh: Fresh) -> str:
    """An exception in the step of the base."""
    s, undisturbed = fresh(), fresh()
    base: Any = s.need_base()
    own = base.step

    def fails(*args: Any, **options: Any) -> None:
        raise back.Stop

    def fail(on: bool) -> None:
        base.step = fails if on else own

    return back.base_step_error(s, undisturbed, fail)


def lost_wrapper(fresh: Fresh) -> str:
    """A new SAM on the same parameters while the old one holds them at w + e."""
    s = fresh()
    if not isinstance(s.opt, SAM):
        raise NotApplicable("a second wrapper would have to be constructed; `sharpmin check` tests it for a class")
    _need_two_passes(s.opt)
    s.door = "block" if s.opt.scope == "global" else "clean"
    if s.door == "clean":
        raise NotApplicable('first_step() is not a step of its own in scope "rank" and "microbatch"')
    model = s.opt.model
    return back.lost(s, lambda: SAM(torch.optim.SGD(s.held, lr=0.1), rho=0.05, model=model))


def buffers_once(fresh: Fresh) -> str:
    """The buffers after a step against those after one pass."""
    s, once = fresh(), fresh()
    s.hold()
    return passes.buffers_once(s, once)


def same_mask(fresh: Fresh) -> str:
    """The random numbers of the two passes."""
    s = fresh()
    s.hold()
    _need_two_passes(s.opt)
    return passes.same_mask(s, fresh())


def missing_first(fresh: Fresh) -> str:
    """First gradients that are cleared before the second pass, then first gradients that are never computed."""
    usual = fresh()
    _need_first_pass(usual.opt)
    was = copies(usual.held)
    usual.step()
    if same(was, copies(usual.held)):
        raise NotApplicable("no step moves the weights now, as with a learning rate of 0")
    s = fresh()
    s.passes = lambda k, when: s.opt.zero_grad() if k == 1 and when == "after" else None
    cleared = passes.missing(s)
    s = fresh()
    s.silent = (1,)
    passes.missing(s)
    return cleared


def rest_counts(fresh: Fresh) -> str:
    """With rho = 0 and another loss in the second pass, the base steps with the gradient of that one."""
    s, bare = fresh(), fresh()
    _need_first_pass(s.opt)
    base = bare.need_base()
    _without_radius(s.opt)
    slopes = [p.detach().clone() for p in s.held]
    held = s.held
    s.instead[2] = lambda: torch.stack([(real(p) * real(c)).sum().double() for p, c in zip(held, slopes, strict=True)]).sum()

    def right() -> Sequence[Tensor]:
        for p, c in zip(bare.held, slopes, strict=True):
            p.grad = c.clone()
        base.step()
        return copies(bare.held)

    def show(now: Sequence[Tensor]) -> str:
        return f"the weights are off by {difference(now, copies(bare.held))} from a step with the second gradient alone"

    passes.second_counts(s, right, show)
    return "the base steps with the second gradient alone"


def real(t: Tensor) -> Tensor:
    """Complex numbers as pairs."""
    return torch.view_as_real(t) if t.is_complex() else t


def scheduler_linked(fresh: Fresh) -> str:
    """A scheduler on the optimizer, before and after load_state_dict, by the rates in the base's groups."""
    for load in (False, True):
        s = fresh()
        base = s.need_base()

        def step(s: Setup = s, base: torch.optim.Optimizer = base) -> list[float]:
            rates = [float(group["lr"]) for group in base.param_groups]
            s.step()
            return rates

        around.scheduler(s, step, load=load)
    return "a tenth each time"


def resume(fresh: Fresh) -> str:
    """Save after a step, load into an optimizer whose state is gone, and take another."""
    s, again = fresh(), fresh()
    for part in (again.opt, *again.bases):
        getattr(part, "state", {}).clear()
    return around.resume(s, again, 1)


def base_methods(fresh: Fresh) -> str:
    """`train()` and `eval()` of a schedule-free base, `consolidate_state_dict()` of a sharded one."""
    s = fresh()
    return around.base_methods(s.opt, s.need_base())


def own_store(fresh: Fresh) -> str:
    """A base that keeps gradients of its own."""
    s = fresh()
    _need_first_pass(s.opt)
    return around.cleared_between(s, s.need_base())


def copied_attributes(fresh: Fresh) -> str:
    """The attributes of the base after `copy.deepcopy(opt)`."""
    s = fresh()
    return around.attributes(s.opt, s.need_base())


def outside_gradients(fresh: Fresh) -> str:
    """Trainable parameters of the model that the optimizer does not hold."""
    return around.outside(fresh())


def rho_assigned(fresh: Fresh) -> str:
    """A radius of 0, assigned to the attribute or to the groups, puts the second pass at w."""
    _need_two_passes(fresh().opt)
    said = []
    for where in ("opt.rho", 'group["rho"]'):
        try:
            said.append(around.assigned(fresh(), where, 0.0, 0.0))
        except NotOffered:
            continue
    if not said:
        raise NotOffered("has no attribute rho, and no rho in its groups")
    return "; ".join(said)
