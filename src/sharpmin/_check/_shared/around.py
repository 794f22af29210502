"""Properties besides the step itself: schedulers, checkpoints, copies, methods of the base, and settings."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch.optim.lr_scheduler import StepLR
from torch.optim.optimizer import Optimizer

from sharpmin.optim import SAM
from sharpmin.optim._effects.rng import RandomState

from .._case import NotApplicable, NotOffered, raised, require
from .._trial import copies, difference, same
from .scene import Scene, length

FORWARDED = ("train", "eval", "consolidate_state_dict")  # what frameworks look for on an optimizer
REMADE = ("_optimizer_", "_zero_grad_profile_name")  # hooks and profiling of torch's optimizers; `step` is patched
_NO_SETTING = (*REMADE, "_opt_called", "_warned_", "_need_device_dtype_check")  # attributes that torch adds during use


def scheduler(s: Scene, step: Callable[[], list[float]], *, load: bool) -> str:
    """A scheduler that makes a tenth of the learning rate each time; `step` takes a step and says with which rates."""
    opt: Any = s.opt
    if not isinstance(opt, Optimizer):
        raise NotOffered("is no torch.optim.Optimizer, which a scheduler demands; attach it to the base")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        linked = StepLR(opt, 1, 0.1)
        first = step()
        if load:
            if not callable(getattr(opt, "load_state_dict", None)):
                raise NotOffered("has no load_state_dict()")
            opt.load_state_dict(opt.state_dict())
        linked.step()
        second = step()
    wrong = [(a, b) for a, b in zip(first, second, strict=True) if abs(b - 0.1 * a) > 1e-9 * abs(a)]
    a, b = wrong[0] if wrong else (first[0], second[0])
    require(not wrong, f"steps of {a:g}, then {b:g}{' after load_state_dict' if load else ''}")
    return f"steps of {a:g}, then {b:g}"


def resume(s: Scene, again: Scene, steps: int) -> str:
    """Save after some steps, load into a scene whose state is gone, take as many again: the unbroken run."""
    if not callable(getattr(s.opt, "load_state_dict", None)):
        raise NotOffered("has no load_state_dict()")
    for _ in range(steps):
        s.step()
    file = saved(s.opt.state_dict())
    values, random = copies([*s.weights, *s.model.buffers()]), RandomState(s.weights)
    for _ in range(steps):
        s.step()
    with torch.no_grad():
        for tensor, value in zip([*again.weights, *again.model.buffers()], values, strict=True):
            tensor.copy_(value)
    again.opt.load_state_dict(loaded(file))
    random.put_back()
    for _ in range(steps):
        again.step()
    unbroken, resumed = copies(s.weights), copies(again.weights)
    after = f"{steps} step{'s' * (steps > 1)} after loading"
    require(same(unbroken, resumed), f"the weights differ by {difference(unbroken, resumed)} {after}")
    return "equal"


def saved(value: Any) -> io.BytesIO:
    """`value` as torch.save writes it."""
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return file


def loaded(file: io.BytesIO) -> Any:
    """Load it, with `weights_only=True` if that is possible."""
    try:
        return torch.load(file, weights_only=True)
    except pickle.UnpicklingError:
        file.seek(0)
        return torch.load(file, weights_only=False)


def base_methods(opt: Any, base: Optimizer) -> str:
    """What frameworks look for on an optimizer and this base has can be called on the optimizer around it."""
    names = [name for name in FORWARDED if callable(getattr(base, name, None))]
    if not names:
        raise NotApplicable(f"the base has none of {', '.join(FORWARDED)}")
    for name in names:
        method = getattr(opt, name, None)
        require(callable(method), f"the base has {name}(), the optimizer around it has not")
        called: list[str] = []
        was = vars(base).get(name)
        vars(base)[name] = lambda *args, name=name, called=called, **options: called.append(name)
        try:
            getattr(opt, name)()
        finally:
            del vars(base)[name]
            if was is not None:
                vars(base)[name] = was
        require(called == [name] or getattr(method, "__self__", None) is base, f"{name}() does not reach the base")
    return f"{', '.join(names)} reach the base"


def cleared_between(s: Scene, base: Any) -> str:
    """A base with a `zero_grad` of its own may keep gradients that only this method clears: it is called between the passes."""
    if type(base).zero_grad is Optimizer.zero_grad:
        raise NotApplicable("the base has no zero_grad() of its own")
    calls, own = 0, base.zero_grad
    between: list[int] = []

    def counting(*args: Any, **options: Any) -> None:
        nonlocal calls
        calls += 1
        own(*args, **options)

    def note(k: int, when: str) -> None:
        if (when == "before" and between) or (when == "after" and not between):
            between.append(calls)

    base.zero_grad, s.passes = counting, note
    s.step()
    if len(between) < 2:
        raise NotApplicable("the step had one pass")
    require(between[1] > between[0], f"{type(base).__name__}.zero_grad() is not called between the passes")
    return "called between the passes"


def attributes(opt: Any, base: Optimizer) -> str:
    """A deep copy of the optimizer has a base with every attribute of the base."""
    plain = Optimizer([torch.nn.Parameter(torch.zeros(1))], {})
    names = [name for name in vars(base) if name not in vars(plain) and name != "step" and not name.startswith(_NO_SETTING)]
    if not names:
        raise NotApplicable("the base keeps nothing but groups and state")
    try:
        twin = copy.deepcopy(opt)
    except Exception as error:
        raise NotApplicable(f"a copy cannot be made: deepcopy {raised(error)}") from None
    found = next((value for value in vars(twin).values() if type(value) is type(base)), None)
    if found is None:
        raise NotApplicable("a copy cannot be made: the deep copy of the optimizer has no base")
    missing = [name for name in names if name not in vars(found)]
    require(not missing, f"the base in a deep copy lacks {', '.join(missing)}")
    return f"{', '.join(names)} survive"


def outside(s: Scene) -> str:
    """Parameters of the model that the optimizer does not hold: after the step their gradients are those of the first pass."""
    held = set(map(id, s.held))
    others = [(name, p) for name, p in s.model.named_parameters() if p.requires_grad and id(p) not in held]
    if not others:
        raise NotApplicable("the optimizer holds every trainable parameter of the model")
    for _, p in others:
        p.grad = None
    first: list[Any] = []
    s.passes = lambda k, when: first.extend(_gradients(others)) if when == "after" and not first else None
    s.step()
    if all(g is None for g in first):
        raise NotApplicable("no trainable parameter outside the optimizer has a gradient")
    for (name, _), a, b in zip(others, first, _gradients(others), strict=True):
        sizes = [0.0 if g is None else float(g.double().norm()) for g in (a, b)]
        seen = f"the gradient of {name} goes from norm {sizes[0]:.4g} after the first pass to {sizes[1]:.4g}"
        require((a is None) is (b is None) and same(a, b), seen)
    return "those of the first pass"


def _gradients(named: Any) -> list[Any]:
    return [None if p.grad is None else p.grad.detach().to_dense().clone() for _, p in named]


def assigned(s: Scene, where: str, value: float, right: float) -> str:
    """A radius that is assigned to the attribute or to the groups makes a perturbation of length `right`, or is refused."""
    if where == "opt.rho" and not hasattr(s.opt, "rho") and not isinstance(s.opt, SAM):
        raise NotOffered("has no attribute rho")
    groups = [group for group in s.opt.param_groups if "rho" in group]
    if where != "opt.rho" and not groups:
        raise NotOffered("has no rho in its groups")
    try:
        if where == "opt.rho":
            s.opt.rho = value
        for group in groups if where != "opt.rho" else []:
            group["rho"] = value
    except Exception as error:
        return f"{where} {raised(error, 120)}"
    seen = s.at_passes()
    s.step()
    moved = length(seen[0], seen[-1])
    require(abs(moved - right) <= 1e-6 * max(1.0, right), f"{where} = {value:g}: ||e|| = {moved:.6g}")
    return f"{where} = {value:g}: ||e|| = {moved:.6g}"
