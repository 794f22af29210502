"""Properties of the base: its own methods, gradients that it stores itself, and several bases."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .._case import Fault, NotOffered, family, raised, require
from .._shared import around
from .._shared.scene import golden
from .._trial import CLOSE, SGD, Holder, Quadratic, Trial, backward, near, second_pass, show


@family(
    "base-methods",
    "train(), eval() and consolidate_state_dict() of the base are reachable",
    right="each of the three reaches a base that has it",
    fix="forward them to the base, and have them only if the base does",
    faults=(33,),
)
def base_methods(t: Trial) -> str:
    """A schedule-free base evaluates the wrong weights if eval() does not reach it; frameworks ask for it by hasattr()."""
    made: list[torch.optim.Optimizer] = []

    class Modes(torch.optim.SGD):
        """SGD with the methods that frameworks look for."""

        def __init__(self, params: Any, **options: Any):
            super().__init__(params, **options)
            made.append(self)

        def train(self) -> None:
            """The weights to train."""

        def eval(self) -> None:
            """The weights to evaluate."""

        def consolidate_state_dict(self, to: int = 0) -> None:
            """All parts of the state."""

    f = Quadratic.new()
    seen = around.base_methods(t.make([f.w], base=Modes), made[-1])
    plain = t.make([f.w])
    false = [name for name in around.FORWARDED if t.ours and hasattr(plain, name)]
    require(not false, f"has {', '.join(false)} though the base has not")
    return seen


class Stores(torch.optim.SGD):
    """SGD that sums gradients in its own buffers, steps with these, and clears them in its own zero_grad."""

    def __init__(self, params: Any, **options: Any):
        super().__init__(params, **options)
        self.store: dict[int, Tensor] = {}
        for group in self.param_groups:
            for p in group["params"]:
                p.register_hook(partial(self._keep, id(p)))

    def _keep(self, key: int, grad: Tensor) -> None:
        self.store[key] = self.store[key] + grad if key in self.store else grad.clone()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear both kinds."""
        self.store.clear()
        super().zero_grad(set_to_none)

    def step(self, closure: Any = None) -> Any:
        """A step with what is in the store."""
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = self.store.get(id(p))
        return super().step(closure)


@family(
    "own-store",
    "Between the passes the base's own zero_grad() clears the gradients",
    right="the step with plain SGD (SAM: w' = (2.67, 0.44))",
    fix="clear gradients by the base's own zero_grad()",
    faults=(34,),
)
def own_store(t: Trial) -> str:
    """Per-sample gradients, `main_grad` and the like lie outside `p.grad`; uncleared, both passes add up."""
    (plain, right), (s, f) = golden(t), golden(t, base=Stores)
    plain.step()
    s.step()
    require(near(f.w, right.w.tolist(), CLOSE), f"w' = {show(f.w)}, and with plain SGD {show(right.w)}")
    return f"w' = {show(f.w)}"


@family(
    "one-ball",
    "Several bases share one perturbation of norm rho",
    right="second pass at (3.3, 1.4), w' = (2.67, 0.944)",
    fix="take a list of bases, one norm over all of them, and let each one step its own groups",
    faults=(36,),
)
def one_ball(t: Trial) -> str:
    """The golden step, one weight a base, lr 0.1 and 0.01. A wrapper for each would climb sqrt(2) rho: to (3.5, 1.5)."""
    a, b = (nn.Parameter(torch.tensor(x, dtype=torch.float64)) for x in (3.0, 1.0))
    if t.subject.several is None:
        raise NotOffered("its constructor makes one base from a class")
    bases: list[torch.optim.Optimizer] = [SGD([a], lr=0.1), SGD([b], lr=0.01)]
    visited: list[Tensor] = []

    def run(_: int) -> Tensor:
        visited.append(torch.stack([a.detach(), b.detach()]))
        return backward((a**2 + 4 * b**2) / 2)

    try:
        t.step(t.subject.several(bases, 0.5, Holder([a, b])), run)
    except Exception as error:
        if t.ours or "list" not in str(error).lower():
            raise Fault(raised(error)) from None
        raise NotOffered(f"takes one base: {raised(error, 120)}") from None
    at = second_pass(visited)
    seen = f"second pass at {show(at)}, w' = {show([a, b])}"
    require(near(at, (3.3, 1.4), CLOSE) and near(torch.stack([a, b]), (2.67, 0.944), CLOSE), seen)
    return seen
