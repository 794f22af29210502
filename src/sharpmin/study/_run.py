"""One run of a study: a method on a data set at one learning rate and radius, clean or noisy, one seed."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from sharpmin._version import __version__
from sharpmin.optim import norm_groups

from ._memory import MemoryMeter
from ._methods import METHODS
from ._optimum import optimum
from ._samples import Samples
from ._settings import Setting, falling, setting

CHUNK = 1024
"""Samples that are evaluated at once."""


@dataclass(frozen=True)
class Cell:
    """A run by its setting.

    Attributes:
        data: the name of the task, of `SETTINGS`.
        method: its name, of `METHODS`.
        noise: the share of the labels that are replaced by random ones.
        seed: of the labels, the first weights and the batches.
        lr: the learning rate.
        rho: the radius; 0 for the base optimizer alone.
    """

    data: str
    method: str
    noise: float
    seed: int
    lr: float
    rho: float

    @property
    def id(self) -> dict[str, Any]:
        """All that determines the result; the key of its row in a store."""
        s = setting(self.data)
        return {
            **asdict(self), "steps": self.steps, "batch": s.batch, "base": s.base_name,
            "torch": str(torch.__version__), "sharpmin": __version__,
        }  # fmt: skip

    @property
    def steps(self) -> int:
        """The number of steps."""
        return setting(self.data).steps(METHODS[self.method].length)


@dataclass
class StudyRun:
    """A run in progress."""

    cell: Cell
    setting: Setting = field(init=False)
    samples: Samples = field(init=False)
    passes: int = 0
    memory: MemoryMeter = field(init=False)

    def __post_init__(self) -> None:
        self.setting = setting(self.cell.data)
        self.samples = self.setting.load().noisy(self.cell.noise, self.cell.seed)
        self.memory = MemoryMeter()
        torch.manual_seed(self.cell.seed)
        self.model, method = self.setting.model(), METHODS[self.cell.method]
        base = self.setting.base(norm_groups(self.model) if method.norms else self.model.parameters(), self.cell.lr)
        self.opt = method.build(base, self.cell.rho, self.model, self.cell.steps)

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of one reshuffled epoch after the other, without end."""
        x, y, size = self.samples.x, self.samples.y, self.setting.batch
        rng = torch.Generator().manual_seed(self.cell.seed)
        while True:
            rows = torch.randperm(len(x), generator=rng)[: self.setting.epoch * size]
            yield from ((x[part], y[part]) for part in rows.view(-1, size))

    def train(self) -> None:
        """Take all steps."""
        self.model.train()
        for step, batch in zip(range(self.cell.steps), self.batches(), strict=False):
            for group in self.opt.param_groups:
                group["lr"] = self.cell.lr * falling(step, self.cell.steps)
            self._step(*batch)

    def _step(self, x: Tensor, y: Tensor) -> None:
        before = self.passes

        def closure() -> Tensor:
            self.memory.look(self.passes - before, x)
            self.passes += 1
            self.opt.zero_grad()
            loss = self.setting.loss(self.model, x, y)
            loss.backward()  # type: ignore[no-untyped-call]  # untyped in torch
            return loss

        self.opt.step(closure)

    def judge(self, x: Tensor, y: Tensor) -> tuple[float, float]:
        """Mean loss and accuracy of the trained net."""
        self.model.eval()
        loss, right = 0.0, 0
        with torch.no_grad():
            for some, labels in zip(torch.split(x, CHUNK), torch.split(y, CHUNK), strict=True):
                loss += float(self.setting.loss(self.model, some, labels)) * len(some) / len(x)
                right += int((self.model(some).argmax(-1) == labels).sum())
        return loss, right / y.numel()


def run(cell: Cell) -> dict[str, Any]:
    """Train, and evaluate after the last step.

    Returns:
        The cell's `id`; passes counted, steps that climbed, training loss over all samples and its gap to the optimum (None
        where not finite), accuracies on the validation and test samples, bytes held beyond weights and gradients at
        the second pass, over the bytes of the weights, and the processor's seconds in the training, which runs in one thread.
    """
    run = StudyRun(cell)
    begin = time.process_time()
    run.train()
    seconds = time.process_time() - begin
    s = run.samples
    loss, _ = run.judge(s.x, s.y)
    gap = loss - optimum(cell.data, cell.noise, cell.seed)
    return {
        "id": cell.id,
        "passes": run.passes,
        "climbed": run.opt.last.climbed,
        "loss": loss if math.isfinite(loss) else None,
        "gap": gap if math.isfinite(gap) else None,
        "validation": run.judge(s.x_validation, s.y_validation)[1],
        "accuracy": run.judge(s.x_test, s.y_test)[1],
        "copies": run.memory.copies(run.model),
        "seconds": round(seconds, 3),
    }
