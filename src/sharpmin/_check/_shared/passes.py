"""Effects of the two passes on each other: rho = 0, gradients that count or are missing, buffers, random numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.optim.optimizer import Optimizer

from sharpmin.optim._effects.rng import RandomState

from .._case import Fault, NotApplicable, raised, require
from .._trial import copies, difference, same
from .scene import Scene, close, generators


def rho_zero(s: Scene, bare: Scene, base: Optimizer, steps: int, *, trace: bool = False) -> str:
    """Steps with rho = 0 against steps of the base in another scene; with `trace` buffers and random states too."""
    random = RandomState(s.weights)
    for _ in range(steps):
        s.step()
    after = generators(s.weights)
    random.put_back()
    for _ in range(steps):
        bare.opt.zero_grad()
        bare.run(1)
        base.step()
    if trace:
        require(same(dict(s.model.named_buffers()), dict(bare.model.named_buffers())), "the buffers differ")
        require(same(after, generators(s.weights)), "the random state differs")
    ours, theirs = copies(s.weights), copies(bare.weights)
    require(same(ours, theirs), f"the weights differ by {difference(ours, theirs)} after {steps} steps")
    return "equal"


def buffers_once(s: Scene, once: Scene) -> str:
    """The buffers after a step against those after one pass, which the second scene makes."""
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
    require(not wrong, f"{len(wrong)} of {len(names)} buffers are not those of one pass: {wrong[0] if wrong else ''}{counts}")
    return "those of one pass"


def same_mask(s: Scene, once: Scene) -> str:
    """Where the random numbers of the two passes begin, and where the step leaves them; the second scene makes one pass."""
    starts: list[list[Tensor]] = []
    first = RandomState(s.weights)
    before = generators(s.weights)
    once.run(1)
    after = generators(s.weights)
    if same(before, after):
        raise NotApplicable("a pass draws no random numbers from torch's generators")
    first.put_back()
    s.passes = lambda k, when: starts.append(generators(s.weights)) if when == "before" else None
    s.step()
    if len(starts) == 1:
        raise NotApplicable("the step had one pass")
    require(same(starts[0], starts[1]), "the second pass draws other random numbers: it goes on where the first one ended")
    require(same(after, generators(s.weights)), "the random state afterwards is not that of one pass")
    return "equal"


def second_counts(s: Scene, right: Callable[[], Sequence[Tensor]], show: Callable[[Sequence[Tensor]], str]) -> str:
    """A step where nothing is perturbed and both passes run; `right` gives the weights that the second gradient alone makes."""
    passes: list[int] = []
    s.passes = lambda k, when: passes.append(k) if when == "before" else None
    try:
        wanted = list(right())
    except Exception as error:
        raise NotApplicable(f"the base does not step with such a gradient: {raised(error, 120)}") from None
    s.step()
    if len(passes) == 1:
        raise NotApplicable("the step had one pass, whose gradient counts")
    now = copies(s.held)
    require(close(now, wanted), show(now))
    return show(now)


def missing(s: Scene) -> str:
    """A step whose first gradients the scene does not make, or clears: an error that says so, or a step that really steps."""
    was = copies(s.held)
    try:
        s.step()
    except Exception as error:
        return _refused(s, was, error)
    if not same(was, copies(s.held)):
        return "no error; the gradient of the second pass steps"
    stepped = _stepped(s.opt)
    if stepped is False:
        return "nothing moves, and no step is reported"
    raise Fault("no error and nothing moves" + (", and a step is reported" if stepped else ""))


def never(s: Scene, *, legal: bool) -> str:
    """No gradient in either pass: an error that says so, or nothing that moves, and, unless this is legal, no step reported."""
    was = copies(s.held)
    try:
        s.step()
    except Exception as error:
        return _refused(s, was, error)
    now = copies(s.held)
    require(same(was, now), f"no error, and the weights move by {difference(was, now)}")
    require(legal or not _stepped(s.opt), "no error, and a step is reported though nothing moves")
    return "nothing moves" if legal else "nothing moves, and no step is reported"


def _stepped(opt: Any) -> bool | None:
    """Whether the optimizer reports that it stepped; None if it reports nothing."""
    stepped = getattr(getattr(opt, "last", None), "stepped", None)
    return None if stepped is None else bool(stepped)


def _refused(s: Scene, was: list[Tensor], error: Exception) -> str:
    """An error is right if it speaks of gradients, leaves the weights alone and lets the next step work."""
    if "grad" not in str(error).lower():
        raise Fault(f"{raised(error)}, which does not say that a gradient is missing")
    now = copies(s.held)
    require(same(was, now), f"an error, and w is off by {difference(was, now)}", "w, bit for bit, after the error")
    s.passes, s.silent, s.instead = None, (), {}
    try:
        s.step()
    except Exception as again:
        raise Fault(f"after the error the next step {raised(again)}", "the next step works") from None
    require(not same(was, copies(s.held)), "after the error the next step moves nothing", "the next step works")
    return raised(error, 120)
