"""`sharpmin.check`: tests the user's own training set-up, on copies of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from sharpmin.optim import SAM
from sharpmin.optim._effects.rng import RandomState

from ._case import Fault, NotApplicable, NotOffered, raised
from ._doors import DOORS, closure, detect
from ._isolate import isolated
from ._own_families import Question
from ._own_questions import QUESTIONS
from ._report import Outcome, Report, Status
from ._setup import LossFn, Setup, untouched


def check(model: nn.Module, loss_fn: LossFn, batch: tuple[Any, Any], opt: Any, *, door: str | None = None) -> Report:
    r"""Check a training set-up: does this SAM, with this model and this batch, do what SAM should?

    Everything runs on copies. Model, optimizer, gradients, modes and random states are bit for bit as before afterwards; it
    takes the memory of two more set-ups and the time of some hundred passes. Forward hooks of the model are copied and fire.

    Args:
        model: called as `model(inputs)`.
        loss_fn: called as `loss_fn(model(inputs), targets)`; returns a scalar tensor.
        batch: the pair `(inputs, targets)`.
        opt: the optimizer, a `sharpmin.SAM` or anybody's with `first_step` and `second_step`, or `step(closure)`.
        door: how your loop takes a step. "block": a first pass, then `with opt.perturbed():`; "clean": the same with the
            first pass inside `with opt.clean():`; "closure": `opt.step(closure)`; "two-step": `first_step`, `second_step`.
            By default "block" for our SAM, else what the optimizer has, "two-step" before "closure".

    Returns:
        A `Report`: iterate over its outcomes, ask `.ok`, or print it, which shows the fix for what fails.

    Raises:
        TypeError: if `opt` has no such door, `batch` is no pair, `loss_fn` cannot be called like this, or the set-up
            cannot be copied.
        ValueError: if `opt` holds none of the model's parameters, or `door` is unknown.
        PhaseError: if the weights are perturbed at the moment.

    >>> import torch, sharpmin as sm
    >>> model = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    >>> batch = torch.randn(8, 2), torch.randn(8, 1)
    >>> opt = sm.SAM(torch.optim.Adam(model.parameters(), lr=0.01), rho=0.05)
    >>> for outcome in sm.check(model, nn.functional.mse_loss, batch, opt).failed:
    ...     print(f"{outcome.family}: {outcome.observed}\n{outcome.fix}")
    batchnorm-once: 3 of 3 buffers are not those of one pass: 1.running_mean, 1.num_batches_tracked counts 2
    pass model=model to sharpmin.SAM (and no `buffers` filter that leaves them out)
    """
    setup = _described(model, loss_fn, batch, opt, door)
    with isolated(seed=None), untouched(setup) as random:
        _tried(setup, random)

        def fresh() -> Setup:
            random.put_back()
            try:
                return setup.copy()
            except TypeError as error:  # the first copy could be made
                raise NotApplicable(str(error)) from None

        return Report(tuple(_answer(question, fresh, ours=isinstance(opt, SAM)) for question in QUESTIONS))


def _answer(question: Question, fresh: Callable[[], Setup], *, ours: bool) -> Outcome:
    right = question.right
    status: Status = "passed"
    fix = question.fix if ours else question.fix_other
    try:
        observed = question.ask(fresh)
    except Fault as fault:
        status, observed, right = "failed", fault.observed, fault.right or right
    except NotOffered as reason:
        status, observed = "not offered", str(reason)
    except NotApplicable as reason:
        status, observed = "not applicable", str(reason)
    except Exception as error:
        status, observed = "failed", raised(error)
    return Outcome(question.id, question.title, status, observed, right, fix)


def _described(model: nn.Module, loss_fn: LossFn, batch: tuple[Any, Any], opt: Any, door: str | None) -> Setup:
    """Check the arguments; returns the set-up."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"check: model is a {type(model).__name__}; give the torch.nn.Module")
    if not callable(loss_fn):
        raise TypeError(f"check: loss_fn is a {type(loss_fn).__name__}; give a function of (model(inputs), targets)")
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        given = f"{len(batch)} things" if isinstance(batch, tuple | list) else f"a {type(batch).__name__}"
        raise TypeError(f"check: batch is {given}; give the pair (inputs, targets)")
    if not isinstance(getattr(opt, "param_groups", None), list):
        raise TypeError(f"check: opt is a {type(opt).__name__}, which has no param_groups; give the optimizer")
    own = set(map(id, model.parameters()))
    if not any(id(p) in own for group in opt.param_groups for p in group["params"]):
        raise ValueError("check: opt holds none of the model's parameters; give the model that it trains")
    return Setup(model, opt, _door(opt, door), loss_fn, batch[0], batch[1])


def _door(opt: Any, door: str | None) -> str:
    """The door that was asked for, or the default one."""
    if door is not None and door not in DOORS:
        raise ValueError(f"check: door={door!r}; give one of {', '.join(DOORS)}")
    if isinstance(opt, SAM) and door in (None, "block", "clean"):
        if not opt.ascent.needs_clean:
            return "one-pass"
        if opt.scope != "global":
            return "clean"
    if door in ("one-pass", "closure-after-backward"):
        return door
    return detect(opt, door, f"check: opt ({type(opt).__name__})")


def _tried(setup: Setup, random: RandomState) -> None:
    """One pass on a copy, so that a batch or a loss of the wrong kind is named before anything else; and what a closure is."""
    trial = setup.copy()
    try:
        loss = trial.loss_fn(trial.model(trial.inputs), trial.targets)
    except Exception as error:
        raise TypeError(
            f"check: loss_fn(model(inputs), targets) {raised(error)}; give a batch (inputs, targets) and a loss_fn for which "
            "this call works, such as lambda output, targets: ..."
        ) from error
    if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
        given = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
        raise TypeError(f"check: loss_fn(model(inputs), targets) is {given}; it must be a scalar tensor that needs gradients")
    if setup.door == "closure" and not isinstance(setup.opt, SAM):
        random.put_back()
        calls: list[int] = []
        trial.passes = lambda k, when: calls.append(k) if when == "before" else None
        try:
            closure(trial.opt, trial.run)
        except Exception:
            return
        if len(calls) == 1:
            setup.door = "closure-after-backward"
