"""`sm.watch`: the statistics of any SAM loop, from the two gradients that it computes anyway."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

from sharpmin.core.rho import Scalar, finite, positive_integer
from sharpmin.optim._compare import Pair, pair
from sharpmin.optim.sam import SAM
from sharpmin.optim.tensors import inner, wide

from ._effective import Base
from ._means import Means
from ._ranks import place
from ._rows import VERSION, Log, Row, Writer, opened
from .sketch import Sketch


class Probe:
    """Watches a run; made by `watch`.

    Attributes:
        log: what has been seen, for `sharpmin.diagnose(probe)`; also written to every writer.
        step: the steps seen so far.
    """

    def __init__(
        self,
        parameters: Callable[[], Iterable[Tensor]],
        base: Callable[[], Base],
        setting: Row,
        writers: Sequence[Writer],
        *,
        every: int,
        block: int,
        seed: int,
    ):
        self.log = Log(room=64)
        self.step = 0
        self._parameters, self._base = parameters, base
        self._writers: list[Writer] = [self.log.add, *writers]
        self._every, self._block, self._sketch = every, block, Sketch(seed)
        self._setting = setting
        self._pending: list[Row] = []
        self._means = Means()
        self._begun = 0
        self._last: tuple[int, Tensor] | None = None
        self._clean: list[tuple[Tensor, Tensor, int]] | None = None
        self._copies = False
        self._loss: Scalar | None = None
        self._write({"kind": "run", "version": VERSION, "step": 0, "time": time.time(), **setting})

    # the two lines of a foreign loop

    @torch.no_grad()
    def clean(self, loss: Scalar | None = None) -> None:
        """After the first backward pass: the gradients in place are those at w.

        Args:
            loss: the loss at w, for the record.
        """
        grads = [(p, p.grad) for p in self._parameters() if p.grad is not None]
        self._clean = [(p, g.clone() if self._copies else g, g._version) for p, g in grads]
        if loss is not None:
            self.note(loss)

    def note(self, loss: Scalar) -> None:
        """The loss at w of the step in progress; a closure of sharpmin's SAM is noted by itself."""
        self._loss = loss.detach() if isinstance(loss, Tensor) else float(loss)

    @torch.no_grad()
    def perturbed(self, rho: float | None = None) -> None:
        """After the second backward pass, before the step: the gradients in place are those at w + e.

        Args:
            rho: the radius of this step, if it is not the one given to `watch`.

        Raises:
            RuntimeError: if `clean()` did not come first.
        """
        if self._clean is None:
            raise RuntimeError("Probe.perturbed() came without clean(); call probe.clean() after the first backward pass")
        kept, self._clean = self._clean, None
        if not self._copies and any(g._version != version or p.grad is g for p, g, version in kept):
            self._copies = True  # the loop writes into its gradients: from the next step on they are copied
            self.log.remarks.append(
                f"step {self.step} is left out: the gradients were overwritten in place between the passes "
                "(zero_grad(set_to_none=False), or no zero_grad); they are copied from now on"
            )
            return
        first = {id(p): g for p, g, _ in kept}
        parameters = [p for p in self._parameters() if p.grad is not None]
        second = [p.grad for p in parameters if p.grad is not None]
        clean = [first[id(p)] if id(p) in first else torch.zeros_like(g) for p, g in zip(parameters, second, strict=True)]
        self.observe(pair(parameters, clean, second), {"rho": self._setting["rho"] if rho is None else rho})

    # what both doors lead to

    @torch.no_grad()
    def observe(self, both: Pair, record: Row) -> None:
        """Take the two gradients of one step."""
        base = self._base()
        row: Row = {"kind": "step", "step": self.step, "lr": base.lr(), **record, **both.products}
        if self._loss is not None:
            row["loss"], self._loss = self._loss, None
        if self.step % self._every == 0:
            self._take(both, base, row, adds=True)
        elif self._last is not None and self._last[0] == self.step - 1 and (self.step - 1) % self._every == 0:
            self._take(both, base, row, adds=False)  # for the cosine with the step before, and not followed in turn
        self._pending.append(row)
        self.step += 1
        if not any(isinstance(v, Tensor) and v.device.type != "cpu" for v in row.values()):
            self.flush()
        if self.step - self._begun >= self._block:
            self._close_block()

    def _take(self, both: Pair, base: Base, row: Row, *, adds: bool) -> None:
        """Sketch g, for its cosine with the one before; if it `adds`, sketch D too, for the block."""
        g = self._sketch(both.clean) / both.scale
        before, self._last = self._last, (self.step, g)
        if before is not None and before[0] == self.step - 1:
            row["lag"] = (before[1] @ g) / (before[1].norm() * g.norm())
        if adds:
            self._means.sketched(self._found(both, base, g))

    def _found(self, both: Pair, base: Base, g: Tensor) -> dict[str, Tensor]:
        """What a block adds up on a sketched step."""
        difference = self._sketch(both.perturbed, minus=both.clean) / both.scale
        found = {"g": g + self._sketch(base.decayed(both.parameters)) if base.decay() else g, "d": difference}
        if base.adaptive():
            found["pd"] = self._sketch(base.preconditioned(both.parameters, both.differences())) / both.scale
            scaled = base.preconditioned(both.parameters, both.clean)
            found["pg"] = self._sketch(scaled) / both.scale
            found["gpg"] = torch.as_tensor(inner(both.clean, scaled), dtype=torch.float64).reshape(1) / both.scale**2
        if self._setting.get("mu"):
            weights = [wide(p.detach()) for p in both.parameters]
            found["x"] = self._sketch(weights)
            found["gx"] = torch.as_tensor(inner(both.clean, weights), dtype=torch.float64).reshape(1) / both.scale
        return found

    def _close_block(self) -> None:
        self.flush()
        row = self._means.row()
        if row is not None:
            self._write({"kind": "block", "first": self._begun, "last": self.step - 1, **row})
        self._means, self._begun = Means(), self.step

    def flush(self) -> None:
        """Write what is pending; on an accelerator this waits for the device, and happens once a block."""
        rows, self._pending = self._pending, []
        for row in rows:
            plain = {k: float(v) if isinstance(v, Tensor) else v for k, v in row.items()}
            self._means.step(plain)
            self._write(plain)

    def _write(self, row: Row) -> None:
        for writer in self._writers:
            writer(row)

    def close(self) -> None:
        """Write the block that is open, and close the writers that can be closed."""
        self._close_block()
        for writer in self._writers:
            close = getattr(writer, "close", None)
            if callable(close):
                close()


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
) -> Probe:
    """Watch a run: the statistics of its two gradients, in memory and wherever they are written to.

    With sharpmin's own SAM, `sm.watch(opt)` is all: it sees every step. In any other loop, `probe = sm.watch(model,
    rho=0.05, optimizer=base)`, then `probe.clean()` after the first backward pass and `probe.perturbed()` after the second.

    Args:
        target: a `sharpmin.SAM`, or the model that another SAM trains.
        rho: the radius of the other SAM.
        optimizer: the base optimizer of the other SAM, for its learning rate, momentum and weight decay.
        to: a path for JSON lines, a callable that takes each row as a dict, or several of them. Once torch.distributed is
            initialised, a path is opened on rank 0 only; a callable is called on every rank, with the same numbers but for
            `loss`, which is that of the rank's own data.
        epoch: steps per epoch; blocks are epochs then.
        reshuffled: whether every epoch visits each sample once (True) or samples are drawn with replacement (False).
        mu: the strong convexity of the training loss if it is known, such as an l2 penalty; gaps are estimated then.
        every: sketch the gradients on every so many steps; scalars are taken on each.
        block: steps a block; by default `epoch`, or 32 sketched steps.
        seed: of the sketch.

    Returns:
        The `Probe`; `sharpmin.diagnose(probe)` reads it at any time.

    Raises:
        TypeError: if `target` is neither, or a SAM comes with `rho` or `optimizer`.
        ValueError: if `rho` is missing for a model, a number makes no sense, or the SAM has scope "rank" on several ranks.

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
    if mu is not None:
        finite(mu, "mu", "watch", low=0, strict=True)
    writers = opened(to)
    length = block or epoch or 32 * every
    shared = {"epoch": epoch, "reshuffled": reshuffled, "mu": mu, "every": every, "block": length, "seed": seed}
    sizes = {"every": every, "block": length, "seed": seed}
    if isinstance(target, SAM):
        return _watch_own(target, rho, optimizer, shared, writers, sizes)
    return _watch_model(target, rho, optimizer, shared, writers, sizes)


def _watch_own(
    opt: SAM, rho: float | None, optimizer: Optimizer | None, shared: Row, writers: list[Writer], sizes: dict[str, int]
) -> Probe:
    if rho is not None or optimizer is not None:
        raise TypeError("watch: a sharpmin.SAM knows its rho and its base; leave rho= and optimizer= out")
    if opt.scope == "rank" and (ranks := place()[1]) > 1:
        raise ValueError(
            f'watch: scope="rank" on {ranks} ranks: each has a first gradient of its own, and the second is the mean of all, '
            'so their difference would show the batches instead of SAM; watch with scope="global"'
        )

    def parameters() -> Iterable[Tensor]:
        return (p for group in opt.param_groups for p in group["params"])

    def base() -> Base:
        return Base(opt.param_groups, opt.state)

    setting = {"rho": None, **_describe(opt.base), **shared}
    probe = Probe(parameters, base, setting, writers, **sizes)

    def seen(both: Pair) -> None:
        record = opt._cycle.record
        if record.get("clean_loss") is not None:
            probe.note(record["clean_loss"])
        probe.observe(both, {k: record[k] for k in ("rho", "radius", "gain") if k in record})

    opt.watchers.append(seen)
    return probe


def _watch_model(
    model: Any, rho: float | None, optimizer: Optimizer | None, shared: Row, writers: list[Writer], sizes: dict[str, int]
) -> Probe:
    if not isinstance(model, nn.Module):
        raise TypeError(f"watch: target={type(model).__name__}; give a sharpmin.SAM, or the model that another SAM trains")
    if rho is None:
        raise ValueError("watch: rho is missing; give the radius of the SAM that trains this model: watch(model, rho=0.05)")
    finite(rho, "rho", "watch", low=0)
    groups = [] if optimizer is None else optimizer.param_groups

    def base() -> Base:
        return Base(groups, {} if optimizer is None else optimizer.state)

    described = {"base": None, "momentum": 0.0, "decay": 0.0, "adaptive": False} if optimizer is None else _describe(optimizer)
    return Probe(model.parameters, base, {"rho": rho, **described, **shared}, writers, **sizes)


def _describe(optimizer: Optimizer) -> Row:
    base = Base(optimizer.param_groups, optimizer.state)
    return {
        "base": type(optimizer).__name__,
        "momentum": base.momentum(),
        "decay": base.decay(),
        "adaptive": base.adaptive(),
    }
