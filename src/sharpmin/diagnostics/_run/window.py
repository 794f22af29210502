"""The window of a verdict: the newest blocks of a run, converted to the present rho.

For block means g_a, D_a of the gradient and of the difference D = G - g, sums over pairs a != b are not biased by the noise
within a block. The learning rate may change; the mean gradients must change little from block to block.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import torch
from torch import Tensor

from sharpmin.core.text import block, brief

from .ahead import between
from .log import Log
from .rows import Row
from .stretch import Block, stretch, weighted

HORIZON = 3 / 16
"""The horizon of predictions as a share of the window; beyond a quarter they were wrong."""

Ahead = Callable[[int], float]
"""A function: k -> the sum of the learning rates of the next k steps."""


@dataclass(frozen=True)
class Window:
    """The newest blocks of a log within which rho and the learning rate changed little.

    Attributes:
        run: the row with the setting of the run.
        parts: its blocks, converted to the present rho.
        first, last: numbers of its first and last step.
        rho, lr: the present values.
        start: the mean loss of the first block of the run, if it was watched from step 0.
        ahead: the sum of the learning rates of the next steps, if the schedule is known.
        remarks: what was left out.
    """

    run: Row
    parts: Sequence[Block] = field(repr=False)
    first: int
    last: int
    rho: float
    lr: float
    start: float | None = None
    ahead: Ahead | None = field(default=None, repr=False)
    remarks: list[str] = field(default_factory=list)

    def __repr__(self) -> str:
        return (
            f"<Window of {self.blocks} blocks: steps {self.first} to {self.last}, rho {brief(self.rho)}, lr {brief(self.lr)}>"
        )

    def __str__(self) -> str:
        scalars = self.scalars
        rows = [
            ("base", self.run.get("base")),
            ("rho", self.rho, "" if self.steady else "the newest; it changed within the window"),
            ("lr", self.lr),
            ("momentum", self.momentum or None),
            ("SAM steps", f"{self.duty:.0%}", "of the steps") if self.duty < 1 else ("SAM steps", None),
            ("loss", scalars.get("loss"), "mean at w"),
            ("first loss", self.start, "mean of the first block of the run"),
            ("||g||", scalars.get("norm_g"), "mean norm of the gradient at w"),
            ("||G - g||", scalars.get("norm_d"), "mean norm of what SAM adds"),
            ("horizon", self.horizon, "steps that predictions reach"),
        ]
        return block(f"window of {self.blocks} blocks: steps {self.first} to {self.last}", rows, self.remarks)

    @classmethod
    def of(cls, log: Log, blocks: int | None = None, lr: Callable[[int], float] | None = None) -> Window:
        """The window at the end of a log.

        Args:
            log: the rows.
            blocks: how many of the newest blocks to use at most.
            lr: the learning rate as a function of the step number; by default that of the recorded schedule, else the
                present one.

        Raises:
            TypeError, ValueError: if `blocks` is no positive integer.
            ValueError: if there are no SAM steps, or too few blocks.
        """
        found = stretch(log, blocks)
        first = log.first or {}
        start = float(first["loss"]) if first.get("first") == 0 and first.get("loss") is not None else None
        sums, block = log.blocks[-1].get("ahead"), log.run.get("block")
        ahead: Ahead | None = partial(between, sums, int(block)) if sums and block else None
        if lr is not None:
            ahead = partial(_sum_of, lr, found.last + 1)
        return cls(log.run, found.parts, found.first, found.last, found.rho, found.lr, start, ahead, found.remarks)

    def without(self, number: int) -> Window:
        """The window without one of its blocks and with the same horizon, for a jackknife."""
        return dataclasses.replace(self, parts=[b for i, b in enumerate(self.parts) if i != number])

    @property
    def blocks(self) -> int:
        """The number of blocks."""
        return len(self.parts)

    @cached_property
    def steps(self) -> int:
        """The number of steps, including those of the base between SAM's steps."""
        return 1 + self.last - self.first

    @cached_property
    def duty(self) -> float:
        """The share of steps with a SAM step; below 1 under `rho.Every`."""
        return min(1.0, math.fsum(b.steps for b in self.parts) / math.fsum(b.passed for b in self.parts))

    @cached_property
    def steady(self) -> bool:
        """Whether rho was constant."""
        return all(math.isclose(b.rho, self.rho, rel_tol=1e-6) for b in self.parts)

    @cached_property
    def scalars(self) -> dict[str, float]:
        """The mean of every scalar over the blocks that have it, weighted by steps."""
        names = sorted({key for block in self.parts for key in block.scalars})
        return {k: weighted([(b.scalars[k], b.steps) for b in self.parts if k in b.scalars]) for k in names}

    def has(self, key: str) -> bool:
        """Whether every block has a sketch of this name."""
        return all(key in block.sketches for block in self.parts)

    def sketches(self, key: str) -> Tensor:
        """The sketches of all blocks, shape (blocks, 256): "g", "d", and if recorded "pd", "pg" (scaled as by Adam), "x"."""
        return torch.stack([block.sketches[key] for block in self.parts])

    @cached_property
    def gram(self) -> tuple[Tensor, Tensor, Tensor]:
        """(g g', g D', D D'), each of shape (blocks, blocks)."""
        g, d = self.sketches("g"), self.sketches("d")
        return g @ g.T, g @ d.T, d @ d.T

    @property
    def horizon(self) -> int:
        """The horizon of predictions, in steps."""
        return max(1, round(HORIZON * self.steps))

    @property
    def momentum(self) -> float:
        """The present momentum of SGD; 0 for Adam, whose first moment is an average."""
        return self.parts[-1].scalars.get("momentum", float(self.run.get("momentum") or 0.0))

    @property
    def rate(self) -> float:
        """The present step per unit of gradient, lr / (1 - momentum)."""
        return self.lr / (1 - self.momentum)

    @property
    def coming(self) -> float:
        """The mean learning rate of the horizon over the present one: below 1 on a schedule that falls."""
        return self.ahead(self.horizon) / (self.horizon * self.lr) if self.ahead is not None and self.lr > 0 else 1.0

    @property
    def tau(self) -> float:
        """The distance that the horizon's steps move per unit of gradient, along the schedule if it is known.

        With momentum b a change of the gradient acts b / (1 - b) steps late: k steps count as
        k - b (1 - b^k) / (1 - b). The first moment of Adam does the same.
        """
        k, b = self.horizon, float(self.run.get("beta1", 0.9)) if self.run.get("adaptive") else self.momentum
        late = b * (1 - b**k) / (1 - b)
        whole = self.lr * k if self.ahead is None else self.ahead(k)
        return whole * (1 - late / k) / (1 - self.momentum)


def _sum_of(lr: Callable[[int], float], first: int, steps: int) -> float:
    return math.fsum(float(lr(step)) for step in range(first, first + steps))
