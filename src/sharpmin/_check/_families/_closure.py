"""The contract of `step`: one closure is a whole step, and no step without a second pass."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .._case import Fault, NotOffered, family, raised, require
from .._doors import counted, takes_closure
from .._trial import CLOSE, Quadratic, Trial, near, show


@family(
    "closure-contract",
    "step(closure) alone is a whole step, also under no_grad",
    right="2 calls, returns 6.5, w' = (2.67, 0.44)",
    fix="call the closure under torch.enable_grad() at w and at w + e, and return the loss at w",
    faults=(13, 22),
)
def closure_contract(t: Trial) -> str:
    """No backward comes before it: that is the contract of torch's own optimizers."""
    if not takes_closure(t.make([Quadratic.new().w])):
        raise NotOffered("step() takes no closure")
    for grad in (True, False):
        where = "" if grad else "under no_grad: "
        f = Quadratic.new()
        opt = t.make([f.w])
        try:
            with torch.set_grad_enabled(grad):
                loss = opt.step(counted(opt, f))
        except Exception as error:
            if _second_pass_only(t):
                raise NotOffered("step(closure) expects the first backward to be done; it does the second pass") from None
            raise Fault(where + raised(error)) from None
        value = float(loss) if isinstance(loss, Tensor | float) else math.nan
        calls = f"{len(f.visited)} call{'s' * (len(f.visited) != 1)}"
        seen = f"{where}{calls}, returns {'nothing' if math.isnan(value) else format(value, '.6g')}, w' = {show(f.w)}"
        if len(f.visited) == 1 and _second_pass_only(t):
            raise NotOffered("step(closure) expects the first backward to be done; it does the second pass")
        require(len(f.visited) == 2 and value == 6.5 and near(f.w, (2.67, 0.44), CLOSE), seen)
    return seen


def _second_pass_only(t: Trial) -> bool:
    """Whether the golden step comes out if the caller does the first pass."""
    f = Quadratic.new()
    opt = t.make([f.w])
    f(1)
    try:
        opt.step(counted(opt, f, done=1))
    except Exception:
        return False
    return len(f.visited) == 2 and near(f.w, (2.67, 0.44), CLOSE)


@family(
    "bare-step",
    "step() without a second pass and without closure is an error",
    right="an error that says how to go on",
    fix="raise unless the second pass has been done: a silent step of the base is not SAM",
    faults=(22,),
)
def bare_step(t: Trial) -> str:
    """A forgotten second pass must raise, not make a plain step of the base."""
    f = Quadratic.new()
    opt = t.make([f.w])
    opt.zero_grad()
    f(1)
    try:
        opt.step()
    except Exception as error:
        return raised(error)
    raise Fault(f"no error; w' = {show(f.w)}")
