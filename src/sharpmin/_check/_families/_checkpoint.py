"""What a checkpoint and a copy must hold."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from .._case import Fault, demand, family, raised
from .._trial import CLOSE, SGD, Adam, Quadratic, Training, Trial, backward, copies, difference, near, same, show

HALF = 5


def saved(value: Any) -> io.BytesIO:
    """`value` as torch.save writes it."""
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return file


def loaded(file: io.BytesIO) -> Any:
    """What torch.load reads, plain numbers and tensors only if that is what was saved."""
    try:
        return torch.load(file, weights_only=True)
    except pickle.UnpicklingError:
        file.seek(0)
        return torch.load(file, weights_only=False)


@family(
    "resume",
    "Save after 5 steps, load into fresh objects, 5 more: the unbroken run",
    right="weights of the unbroken run, bit for bit",
    fix="put the state of the base into state_dict, and give it back in load_state_dict",
    faults=(1, 17),
)
def resume(t: Trial) -> str:
    """Adam, whose state matters."""
    f = Training()
    opt = t.make(list(f.net.parameters()), 0.05, base=Adam, lr=0.01, model=f.net)
    t.need(opt, "state_dict", "load_state_dict")
    for _ in range(HALF):
        t.step(opt, f)
    weights, state = saved(f.net.state_dict()), saved(opt.state_dict())
    for _ in range(HALF):
        t.step(opt, f)
    fresh = Training()
    again = t.make(list(fresh.net.parameters()), 0.05, base=Adam, lr=0.01, model=fresh.net)
    fresh.net.load_state_dict(loaded(weights))
    again.load_state_dict(loaded(state))
    for _ in range(HALF):
        t.step(again, fresh)
    unbroken, resumed = copies(f.net.parameters()), copies(fresh.net.parameters())
    demand(same(unbroken, resumed), f"weights differ by {difference(unbroken, resumed)} after 5 steps at lr 0.01")
    return "equal"


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
    demand(more <= 10_000, f"{more / 1000:.1f} kB more than the base's")
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
        demand(near(w, (2.67, 0.44), CLOSE), f"{name}: the copy's w' = {show(w)}")
        demand(near(f.w, (3.0, 1.0), 0.0), f"{name}: the original's w = {show(f.w)}")
    return "both work"
