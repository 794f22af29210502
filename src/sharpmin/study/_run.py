"""One run of a study: a method on a data set, clean or noisy, one seed, at the budget of gradient evaluations that all have."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from sharpmin._version import __version__
from sharpmin.diagnostics import OnHold, Probe, diagnose, watch

from ._data import Setting, Split, setting
from ._methods import LATE, METHODS, Radii
from ._optimum import optimum
from ._sharpness import eigenvalue

LR = ((0.0, 1.0), (0.5, 0.2), (0.8, 0.04))
"""From which share of the evaluations on the learning rate has which factor. Steps, since a window needs a constant one."""

OFF, SHORT = "rho = 0", "too short"
"""Verdicts of runs that end without SAM, and of windows with too few epochs."""


@dataclass(frozen=True)
class Cell:
    """A run by its setting; `evaluations` is the budget, by default that of the data set."""

    data: str
    method: str
    noise: float
    seed: int
    evaluations: int = 0

    @property
    def budget(self) -> int:
        """Gradient evaluations: an even number."""
        if self.evaluations:
            return self.evaluations
        s = setting(self.data)
        return 2 * s.epochs * (len(s.split()[0]) // s.batch)

    @property
    def rho(self) -> tuple[float, float]:
        """The tuned and the far too large radius."""
        s = setting(self.data)
        return s.rho[self.noise], s.large

    @property
    def id(self) -> dict[str, Any]:
        """All that decides the result, so that a file of another setting is not taken for this one."""
        s = setting(self.data)
        return {
            **asdict(self), "evaluations": self.budget, "rho": list(self.rho), "lr": s.lr, "momentum": s.momentum,
            "batch": s.batch, "torch": str(torch.__version__), "sharpmin": __version__,
        }  # fmt: skip


@dataclass
class Budget:
    """Counts gradient evaluations."""

    whole: int
    used: int = 0

    @property
    def share(self) -> float:
        """Of the budget that is used."""
        return self.used / self.whole

    @property
    def factor(self) -> float:
        """Of the learning rate, by now."""
        return next(factor for begin, factor in reversed(LR) if self.share >= begin)


@dataclass
class Run:
    """A run in progress."""

    cell: Cell
    setting: Setting = field(init=False)
    split: Split = field(init=False)
    budget: Budget = field(init=False)
    probe: Probe | None = None
    hold: OnHold | None = None

    def __post_init__(self) -> None:
        self.setting = setting(self.cell.data)
        self.split = self.setting.samples(self.cell.noise, self.cell.seed)
        self.budget = Budget(self.cell.budget)
        torch.manual_seed(self.cell.seed)
        self.model, method = self.setting.model(), METHODS[self.cell.method]
        base = torch.optim.SGD(self.model.parameters(), lr=self.setting.lr, momentum=self.setting.momentum)
        self.opt = method.build(base, Radii(*self.cell.rho, self.budget.whole))
        if method.hold is not None:
            self.hold = method.hold(self.opt, self._watch())

    @property
    def epoch(self) -> int:
        """Steps."""
        return len(self.split[0]) // self.setting.batch

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of one epoch after the other, without end."""
        x, y = self.split[:2]
        size, rng = self.setting.batch, torch.Generator().manual_seed(self.cell.seed)
        while True:
            if self.setting.replacement:
                rows = torch.randint(len(x), (self.epoch * size,), generator=rng)
            else:
                rows = torch.randperm(len(x), generator=rng)[: self.epoch * size]
            yield from ((x[part], y[part]) for part in rows.view(-1, size))

    def train(self) -> None:
        """All steps that the budget pays for."""
        for number, batch in enumerate(self.batches(), 1):
            if self.budget.used + 1 + self.opt.needs_second_pass > self.budget.whole:
                return
            factor = self.budget.factor
            for group in self.opt.param_groups:
                group["lr"] = self.setting.lr * factor
            if self.budget.share >= LATE and self.hold is not None:
                self.hold = None  # the late part is a window at constant rho and lr for the verdict
            if self.budget.share >= LATE and self.probe is None:
                self._watch()
            self._step(*batch)
            if number % self.epoch == 0 and self.hold is not None and self._steady():
                self.hold.step()

    def _step(self, x: Tensor, y: Tensor) -> None:
        def closure() -> Tensor:
            self.budget.used += 1
            self.opt.zero_grad()
            loss = self.setting.loss(self.model, x, y)
            loss.backward()  # type: ignore[no-untyped-call]  # untyped in torch
            return loss

        self.opt.step(closure)

    def _watch(self) -> Probe:
        s = self.setting
        self.probe = watch(self.opt, epoch=self.epoch, reshuffled=not s.replacement, mu=s.l2 or None, every=4)
        return self.probe

    def _steady(self) -> bool:
        """Whether the newest blocks all have one learning rate."""
        rows = list(self.probe.log.blocks)[-10:] if self.probe else []
        return len(rows) == 10 and rows[0]["lr"][0] == rows[-1]["lr"][1]

    def verdict(self) -> str:
        """What the late part says about rho."""
        if not self.opt.needs_second_pass:
            return OFF
        try:
            return diagnose(self.probe, blocks=None).state.value if self.probe else SHORT
        except ValueError:
            return SHORT


def run(cell: Cell) -> dict[str, Any]:
    """Train, and measure at the end.

    Returns:
        The cell's `id` and gradient evaluations, steps, final rho, training loss over all samples, its gap to the optimum,
        test accuracy, largest Hessian eigenvalue of the training loss, verdict and seconds. None where not finite.
    """
    begin = time.perf_counter()
    run = Run(cell)
    run.train()
    x, y, x_test, y_test = run.split
    with torch.no_grad():
        loss = float(run.setting.loss(run.model, x, y))
        accuracy = float((run.model(x_test).argmax(1) == y_test).double().mean())
    values = {
        "loss": loss,
        "gap": loss - optimum(cell.data, cell.noise, cell.seed),
        "accuracy": accuracy,
        "eigenvalue": eigenvalue(run.setting, run.model, x, y),
    }
    whole = {k: v if math.isfinite(v) else None for k, v in values.items()}
    took = {"used": run.budget.used, "verdict": run.verdict(), "seconds": round(time.perf_counter() - begin, 3)}
    return {"id": cell.id, **whole, **took}
