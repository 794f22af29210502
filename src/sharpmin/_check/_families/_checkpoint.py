"""What a checkpoint and a copy must hold."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from .._case import Fault, NotApplicable, family, raised, require
from .._shared import around
from .._shared.around import saved
from .._shared.scene import Played, golden, played
from .._trial import CLOSE, SGD, Adam, Quadratic, Training, Trial, backward, near, show

HALF = 5


@family(
    "resume",
    "Save after 5 steps, load into fresh objects, 5 more: the unbroken run",
    right="weights of the unbroken run, bit for bit",
    fix="put the state of the base into state_dict, and give it back in load_state_dict",
    faults=(1, 17),
)
def resume(t: Trial) -> str:
    """Adam, whose state matters."""
    return around.resume(_adam(t, Training()), _adam(t, Training()), HALF)


def _adam(t: Trial, f: Training) -> Played:
    return played(t, f.net, lambda _: f.loss(), 0.05, base=Adam, lr=0.01)


@family(
    "checkpoint-size",
    "A checkpoint holds no copy of the weights",
    right="at most 10 kB more than the base's",
    fix="keep the backup of the weights out of state, or drop it when they are restored",
    faults=(1,),
)
def checkpoint_size(t: Trial) -> str:
    """Ten thousand float32 weights are 40 kB."""
    w = nn.Parameter(torch.ones(10_000))
    opt = t.make([w])
    t.need(opt, "state_dict")

    def run(_: int) -> torch.Tensor:
        loss = (w**2).sum()
        return backward(loss)

    t.step(opt, run)
    more = saved(opt.state_dict()).getbuffer().nbytes - saved(SGD([w], lr=0.1).state_dict()).getbuffer().nbytes
    require(more <= 10_000, f"{more / 1000:.1f} kB more than the base's")
    return f"{more / 1000:.1f} kB more"


@family(
    "copying",
    "deepcopy and pickle give an optimizer that works",
    right="the copy takes the golden step on its own weights, and the original stays where it is",
    fix="let __getstate__ keep the base optimizer, and __setstate__ make the hooks anew",
    faults=(15,),
)
def copying(t: Trial) -> str:
    """Of the weights and the optimizer together, so that they stay a pair."""
    kinds: dict[str, Callable[[Any], Any]] = {
        "deepcopy": copy.deepcopy,
        "pickle": lambda pair: pickle.loads(pickle.dumps(pair)),
    }
    for name, how in kinds.items():
        f = Quadratic.new()
        pair = (f.w, t.make([f.w]))
        try:
            w, opt = how(pair)
            t.step(opt, Quadratic(w))
        except Exception as error:
            if "local object" in str(error) or "not the same object" in str(error):
                continue  # what pickle says of a class that no module holds
            raise Fault(f"{name}: {raised(error)}") from None
        require(near(w, (2.67, 0.44), CLOSE), f"{name}: the copy's w' = {show(w)}")
        require(near(f.w, (3.0, 1.0), 0.0), f"{name}: the original's w = {show(f.w)}")
    return "both work"


class Doubling(torch.optim.SGD):
    """SGD that multiplies the gradient by an attribute of its own, which is not in its state."""

    def __init__(self, params: Any, **options: Any):
        super().__init__(params, **options)
        self.times = 2.0

    def step(self, closure: Any = None) -> Any:
        """A step."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.grad.mul_(self.times)
        return super().step(closure)


@family(
    "copied-attributes",
    "A copy of the optimizer keeps the attributes of the base",
    right="the copy steps like the original: w' = (2.34, -0.12)",
    fix="copy all attributes of the base: torch's __getstate__ keeps groups and state only",
    faults=(35,),
)
def copied_attributes(t: Trial) -> str:
    """A base whose step is twice as long by an attribute of its own; twice the golden step."""
    for base, right in ((SGD, (2.67, 0.44)), (Doubling, (2.34, -0.12))):
        s, f = golden(t, base=base)
        try:
            w, opt = copy.deepcopy((f.w, s.opt))
            t.step(opt, Quadratic(w))
        except Exception as error:
            if base is SGD:
                raise NotApplicable(f"a copy cannot be made with any base: {raised(error)}") from None
            raise Fault(f"the copy {raised(error)}") from None
        if base is SGD and not near(w, right, CLOSE):
            raise NotApplicable("a copy does not work with any base; see the family copying")
        require(near(w, right, CLOSE), f"the copy's w' = {show(w)}")
    return f"the copy's w' = {show(w)}"
