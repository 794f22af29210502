"""The methods that `step_overhead.py` compares: the floor, wrappers written by hand, and sharpmin's interfaces."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from _nets import Task
from torch import Tensor, nn

import sharpmin as sm

RHO, BIG, EVERY = 0.05, 65_536, 8
Step = Callable[[], Any]


def timed(call: Step) -> float:
    """The seconds that a call takes."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def by_hand(task: Task, passes: int = 2) -> Step:
    """`passes` passes at w and one base step: the floor; with one pass, the base optimizer alone."""
    base = task.base()

    def step() -> None:
        for _ in range(passes):
            base.zero_grad(set_to_none=True)
            task.passes()
        base.step()

    return step


def block(
    task: Task, options: Callable[[nn.Module], dict[str, Any]] = lambda net: {}, clean: bool = False, watch: int = 0
) -> Step:
    """sharpmin by `perturbed()`; `options` gives the keywords of `SAM` for a net; `watch` is how often it is sketched."""
    opt = sm.SAM(task.base(), rho=RHO, **options(task.net))
    if watch:
        sm.watch(opt, every=watch, block=10**9)
    first = opt.clean if clean else nullcontext

    def step() -> None:
        opt.zero_grad(set_to_none=True)
        with first():
            task.passes()
        with opt.perturbed():
            task.passes()
        opt.step()

    return step


def by_closure(task: Task) -> Step:
    """sharpmin by `step(closure)`."""
    opt = sm.SAM(task.base(), rho=RHO)

    def closure() -> Tensor:
        opt.zero_grad(set_to_none=True)
        return task.passes()

    return partial(opt.step, closure)


class Phased:
    """sharpmin by its phases, each timed: `laps` holds perturb, restore, and step minus the base step."""

    def __init__(self, task: Task):
        self.task, self.opt = task, sm.SAM(task.base(), rho=RHO)
        self.laps: list[tuple[float, float, float]] = []
        self._base_step, self._in_base = self.opt.base.step, 0.0
        self.opt.base.step = self._timed_base_step

    def _timed_base_step(self) -> None:
        self._in_base = timed(self._base_step)

    def __call__(self) -> None:
        self.opt.zero_grad(set_to_none=True)
        self.task.passes()
        perturb = timed(self.opt.perturb)
        self.task.passes()
        restore = timed(self.opt.restore)
        step = timed(self.opt.step)
        self.laps.append((perturb, restore, step - self._in_base))


def two_step(task: Task) -> Step:
    """The common wrapper: one norm per tensor, a clone of w in the state, e tensor by tensor, and `p.data = old_p`."""
    base = task.base()
    params: list[Tensor] = base.param_groups[0]["params"]
    state: dict[Tensor, dict[str, Tensor]] = {p: {} for p in params}

    @torch.no_grad()
    def first_step() -> None:
        norm = torch.stack([p.grad.norm(p=2) for p in params if p.grad is not None]).norm(p=2)
        scale = RHO / (norm + 1e-12)
        for p in params:
            if p.grad is not None:
                state[p]["old_p"] = p.data.clone()
                p.add_(p.grad * scale.to(p))

    @torch.no_grad()
    def second_step() -> None:
        for p in params:
            if p.grad is not None:
                p.data = state[p]["old_p"]
        base.step()

    def step() -> None:
        base.zero_grad(set_to_none=True)
        task.passes()
        first_step()
        base.zero_grad(set_to_none=True)
        task.passes()
        second_step()

    return step


def bare(task: Task) -> Step:
    """A SAM step with the least arithmetic: one norm, copy, add, copy back, finite check, in fused calls.

    It has no phases and no checks, supports one group of dense float32 tensors on the CPU, and its norm is inaccurate for big
    tensors. The difference between it and sharpmin is the cost of a complete optimizer.
    """
    base = task.base()
    params: list[Tensor] = base.param_groups[0]["params"]
    copies = [torch.empty_like(p) for p in params]

    @torch.no_grad()
    def up() -> None:
        grads = [p.grad for p in params]
        small, big = [g for g in grads if g.numel() < BIG], [g for g in grads if g.numel() >= BIG]
        norms = torch._foreach_norm([torch._C._nn.flatten_dense_tensors(small), *big])
        torch._foreach_copy_(copies, params)
        torch._foreach_add_(params, grads, alpha=RHO / float(torch.linalg.vector_norm(torch.stack(norms))))

    @torch.no_grad()
    def down() -> None:
        torch._foreach_copy_(params, copies)
        found = torch.zeros(1)
        torch._amp_foreach_non_finite_check_and_unscale_([p.grad for p in params], found, torch.ones(1))
        if not bool(found):
            base.step()

    def step() -> None:
        base.zero_grad(set_to_none=True)
        task.passes()
        up()
        base.zero_grad(set_to_none=True)
        task.passes()
        down()

    return step


@dataclass(frozen=True)
class Method:
    """How a method's step is made, and the method whose weights it must reproduce (None: no other's)."""

    make: Callable[[Task], Step]
    like: str | None = "two-step wrapper"


METHODS = {  # add a feature here
    "floor": Method(by_hand, like="base alone"),
    "floor again": Method(by_hand, like="base alone"),
    "base alone": Method(partial(by_hand, passes=1), like=None),
    "two-step wrapper": Method(two_step, like=None),
    "bare arithmetic": Method(bare),
    "SAM": Method(block),
    "SAM closure": Method(by_closure),
    "SAM model=": Method(partial(block, options=lambda net: {"model": net})),
    "SAM clean()": Method(partial(block, clean=True)),
    "SAM telemetry": Method(partial(block, options=lambda net: {"telemetry": True})),
    "SAM watch": Method(partial(block, watch=EVERY)),
    "SAM watch, scalars": Method(partial(block, watch=10**9)),
    "SAM watch, sketch": Method(partial(block, watch=1)),
    "SAM phases": Method(Phased),
}
