"""`sm.watch`: statistics of a SAM loop, from the two gradients that it computes anyway."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

from sharpmin.core.rho import finite, positive_integer
from sharpmin.core.warn import warn
from sharpmin.optim._compare import GradientPair
from sharpmin.optim._scope import rank_and_world
from sharpmin.optim.sam import SAM

from .ahead import Ahead, scheduler_of
from .base_view import BaseView, name_of
from .probe import Probe
from .rows import Row, Writer
from .writers import opened


def watch(
    target: nn.Module | Optimizer,
    *,
    rho: float | None = None,
    optimizer: Optimizer | None = None,
    to: str | Path | Writer | Sequence[str | Path | Writer] = (),
    epoch: int | None = None,
    reshuffled: bool | None = None,
    mu: float | None = None,
    every: int = 8,
    block: int | None = None,
    seed: int = 0,
    start: int | None = None,
    scheduler: Any = None,
) -> Probe:
    """Watch a run: record statistics of its two gradients, in memory and optionally in files or trackers.

    With sharpmin's own SAM, `sm.watch(opt)` is all: it sees every step. In any other loop, `probe = sm.watch(model,
    rho=0.05, optimizer=base)`, then `probe.clean()` after the first backward pass and `probe.perturbed()` after the second.

    Args:
        target: a `sharpmin.SAM`, or the model that another SAM trains.
        rho: the radius of the other SAM.
        optimizer: the base optimizer of the other SAM, for its learning rate, momentum and weight decay.
        to: a path for JSON lines, a callable that takes each row as a dict, or several of them. Once torch.distributed is
            initialized, a path is opened on rank 0 only; a callable is called on every rank, with the same numbers but for
            `loss`, which is that of the rank's own data, and `id`, which names the rank's own probe.
        epoch: steps per epoch; blocks are epochs then.
        reshuffled: whether every epoch visits each sample once (True) or samples are drawn with replacement (False).
        mu: the strong convexity of the training loss if it is known, such as an l2 penalty; gaps are estimated then.
        every: sketch the gradients on every so many steps; scalars are taken on each.
        block: steps a block; by default `epoch`, or 32 sketched steps.
        seed: of the sketch's signs.
        start: the number of the first step; by default rows have the step count of a `sharpmin.SAM`, which is in its
            checkpoints too, and another one's steps are counted from 0. Steps that a log has already are replaced.
        scheduler: the learning rate scheduler of the loop, of torch; it is only read. Predictions then use the
            future learning rates instead of the present one.

    Returns:
        The `Probe`; `sharpmin.diagnose(probe)` reads it at any time.

    Warns:
        UserWarning: for a model without `optimizer`, since no verdict will be possible; after the first block without a loss.

    Raises:
        TypeError: if `target` is neither a SAM nor a model, or is a SAM and `rho` or `optimizer` is given.
        ValueError: if `rho` is missing for a model, a number makes no sense, or the SAM takes one gradient a step, or has
            scope "microbatch" or, on several ranks, "rank".

    >>> import torch
    >>> import sharpmin as sm
    >>> w = torch.nn.Parameter(torch.tensor([3.0, 1.0], dtype=torch.float64))
    >>> opt = sm.SAM(torch.optim.SGD([w], lr=0.1), rho=0.5)
    >>> probe = sm.watch(opt)
    >>> def closure():
    ...     opt.zero_grad()
    ...     loss = 0.5 * (w[0] ** 2 + 4 * w[1] ** 2)
    ...     loss.backward()
    ...     return loss
    >>> _ = opt.step(closure)
    >>> {k: round(v, 6) for k, v in probe.log.steps[0].items() if k in ("gg", "dg", "dd", "loss")}
    {'gg': 25.0, 'dg': 7.3, 'dd': 2.65, 'loss': 6.5}
    """
    for name, count in (("every", every), ("block", block), ("epoch", epoch)):
        if count is not None:
            positive_integer(count, name, "watch")
    if start is not None and (isinstance(start, bool) or not isinstance(start, int) or start < 0):
        raise ValueError(f"watch: start={start!r}; start must be an integer >= 0")
    setting: Row = {
        "epoch": epoch,
        "reshuffled": None if reshuffled is None else bool(reshuffled),
        "mu": None if mu is None else finite(mu, "mu", "watch", low=0, strict=True),
    }
    setting |= {"every": every, "block": block or epoch or 32 * every, "seed": seed}
    ahead = None if scheduler is None else Ahead(scheduler_of(scheduler, "watch"))
    watched = _watch_own if isinstance(target, SAM) else _watch_model
    probe = watched(target, rho, optimizer, setting, to, start)
    probe.ahead = ahead
    return probe


def _probe(parameters: Any, base: Any, setting: Row, to: Any, start: int, count: Any = None) -> Probe:
    sizes = {key: int(setting[key]) for key in ("every", "block", "seed")}
    return Probe(parameters, base, setting, opened(to), **sizes, start=start, count=count)


def _refuse_own(opt: SAM, rho: float | None, optimizer: Optimizer | None) -> None:
    """Raise if `rho` or `optimizer` is given for a SAM, or its two gradients are not comparable."""
    if rho is not None or optimizer is not None:
        raise TypeError("watch: a sharpmin.SAM knows its rho and its base; leave rho= and optimizer= out")
    require_pair(opt, "watch")


def require_pair(opt: SAM, owner: str) -> None:
    """Raise for a SAM whose two gradients are not comparable.

    Raises:
        ValueError: if it takes one gradient a step, or one for each micro-batch or rank.
    """
    if not opt.ascent.needs_clean:
        raise ValueError(
            f"{owner}: {opt.ascent!r} takes one gradient a step, and there is no second one to compare; "
            "give a SAM with two, such as ascent=sm.Gradient()"
        )
    if opt.scope == "rank" and (ranks := rank_and_world()[1]) > 1:
        raise ValueError(
            f'{owner}: scope="rank" on {ranks} ranks: each has a first gradient of its own, and the second is the mean of all, '
            'so their difference would show the batches instead of SAM; use scope="global"'
        )
    if opt.scope == "microbatch":
        raise ValueError(
            f'{owner}: scope="microbatch" has two gradients for each micro-batch, and a row is a step; use scope="global"'
        )


def _watch_own(opt: Any, rho: float | None, optimizer: Optimizer | None, setting: Row, to: Any, start: int | None) -> Probe:
    _refuse_own(opt, rho, optimizer)

    def parameters() -> Iterable[Tensor]:
        return (p for group in opt.param_groups for p in group["params"])

    def base() -> BaseView:
        return BaseView(opt.param_groups, opt.state)

    setting = {"rho": None, **_describe(opt.base), **setting}
    probe = _probe(parameters, base, setting, to, start or 0, opt._passes.groups.count if start is None else None)

    def seen(both: GradientPair) -> None:
        record = opt._passes.state.record
        loss = record.get("clean_loss")
        if isinstance(loss, (int, float)) or (isinstance(loss, Tensor) and loss.numel() == 1):  # a closure may return more
            probe.note(loss)
        curved = {k: v for k, v in opt._passes.state.step.curved.items() if v is not None}
        groups = opt._passes.groups
        counts = {"climbed": groups.climbed() + 1, "total_passes": groups.passes() + record["passes"]}  # with this step
        probe.observe(both, {k: record[k] for k in ("rho", "radius", "gain") if k in record} | curved | counts)

    opt.watchers.append(seen)

    def let_go() -> None:
        opt.watchers.remove(seen)
        opt._passes.warn_idle("watch")

    probe._let_go = let_go
    return probe


def _watch_model(model: Any, rho: float | None, optimizer: Any, setting: Row, to: Any, start: int | None) -> Probe:
    if not isinstance(model, nn.Module):
        raise TypeError(f"watch: target={type(model).__name__}; give a sharpmin.SAM, or the model that another SAM trains")
    if rho is None:
        raise ValueError("watch: rho is missing; give the radius of the SAM that trains this model: watch(model, rho=0.05)")
    radius = finite(rho, "rho", "watch", low=0)
    while isinstance(inner := getattr(optimizer, "base_optimizer", None), Optimizer):  # the usual attribute of other SAMs
        optimizer = inner
    if optimizer is not None and not isinstance(optimizer, Optimizer):
        raise TypeError(f"watch: optimizer={optimizer!r} is a {type(optimizer).__name__}; give the base optimizer of the SAM")
    if optimizer is None:
        warn(
            "watch: without optimizer= the learning rate is unknown, so no fall of the loss can be predicted, and the verdict "
            "will be undecided; give the base optimizer: watch(model, rho=..., optimizer=base)"
        )
    groups = [] if optimizer is None else optimizer.param_groups

    def base() -> BaseView:
        return BaseView(groups, {} if optimizer is None else optimizer.state)

    described = (
        {"base": None, "momentum": 0.0, "decay": 0.0, "adaptive": False, "beta1": 0.0}
        if optimizer is None
        else _describe(optimizer)
    )
    return _probe(model.parameters, base, {"rho": radius, **described, **setting}, to, start or 0)


def _describe(optimizer: Optimizer) -> Row:
    base = BaseView(optimizer.param_groups, optimizer.state)
    return {
        "base": name_of(optimizer),
        "momentum": base.momentum(),
        "decay": base.decay(),
        "adaptive": base.adaptive(),
        "beta1": base.averaging(),
    }
