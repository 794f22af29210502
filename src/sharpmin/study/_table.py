"""The table of a study: means over seeds with 95 % intervals, one line per method, clean and noisy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from sharpmin.core.text import block

from ._estimate import FEW, Estimate
from ._methods import METHODS
from ._run import Cell
from ._settings import setting
from ._trials import TUNING, Rows, scores

LEARNED = 0.1
"""A run has collapsed if its accuracy is less than this share of the way from that of the most frequent class to 1."""


@dataclass(frozen=True)
class Line:
    """A method, clean or noisy, over its seeds.

    Attributes:
        method, noise: of the runs.
        lr, rho: chosen by validation; rho is 0 for methods without one.
        edge: which of them is an end of its grid, so that a better one may lie beyond.
        runs: the number of seeds.
        passes: forward and backward of a run, in units of the steps of the base at length 1; a mean.
        seconds: of the processor for a run, the median over its seeds, in units of the base's at length 1.
        copies: held in memory beyond weights and gradients, in units of the weights.
        loss, gap: training loss over all samples, and above the least one (0 where it is not known).
        validation: accuracy on the validation samples, mean over the seeds of the trials.
        accuracy: on the test samples, after the last step.
        gain: of accuracy over the base at the length that validation chose, seed by seed.
        collapsed: how many runs collapsed.
    """

    method: str
    noise: float
    lr: float
    rho: float
    edge: tuple[str, ...]
    runs: int
    passes: float
    seconds: float
    copies: float
    loss: Estimate
    gap: Estimate
    validation: float
    accuracy: Estimate
    gain: Estimate
    collapsed: int

    def __repr__(self) -> str:
        return f"<Line {self.method}, {self.noise:.0%} label noise: accuracy {self.accuracy.shown(100)} % in {self.runs} runs>"

    def __str__(self) -> str:
        rows = [
            ("lr", self.lr),
            ("rho", self.rho or None),
            ("accuracy", self.accuracy.shown(100), f"% on test samples, {self.runs} runs"),
            ("gain", self.gain.shown(100), "% over the base"),
            ("loss", self.loss.shown(), "on all training samples"),
            ("gap", self.gap.shown(), "of the loss to the least one"),
            ("passes", self.passes, "in units of the base's"),
            ("seconds", self.seconds, "of the processor, in units of the base's"),
            ("copies", self.copies, "of the weights in memory"),
            ("collapsed", self.collapsed or None, "runs"),
            ("edge", ", ".join(self.edge) or None, "chosen at an end of its grid"),
        ]
        return block(f"{self.method}, {self.noise:.0%} label noise", rows)

    @property
    def few(self) -> bool:
        """Whether the values of the seeds are shown instead of an interval."""
        return self.runs < FEW

    def record(self) -> dict[str, Any]:
        """The line as values for JSON."""
        plain = {
            k: getattr(self, k) for k in ("method", "noise", "lr", "rho", "runs", "passes", "seconds", "copies", "collapsed")
        }
        return {**plain, "edge": list(self.edge), **{k: getattr(self, k).record() for k in ("loss", "gap", "accuracy", "gain")}}


def table(rows: Rows) -> list[Line]:
    """The lines, clean first, in the order of `METHODS`; rows may come in any order."""
    return [
        _line(rows, noise, method)
        for noise in sorted({cell.noise for cell in rows})
        for method in METHODS
        if _own(rows, noise, method)
    ]


def best_base(rows: Rows, noise: float) -> str:
    """The base at the length that has the best validation accuracy."""
    lengths = [name for name in METHODS if not METHODS[name].scale and _own(rows, noise, name)]
    return max(lengths, key=lambda name: max(scores(rows, name, noise).values()))


def paired(rows: Rows, method: str, against: str, noise: float) -> Estimate:
    """How much better in test accuracy `method` is than `against`, seed by seed, from the `rows` at a `noise`.

    Both had the same labels, first weights and batches.
    """
    one, other = ({c.seed: row["accuracy"] for c, row in _own(rows, noise, name).items()} for name in (method, against))
    return Estimate.of([one[seed] - other[seed] for seed in sorted(one.keys() & other.keys())])


def collapsed(cell: Cell, row: Mapping[str, Any]) -> bool:
    """Whether the run learned next to nothing, or its loss is not finite."""
    labels = setting(cell.data).load().y_test.flatten()
    chance = float(labels.bincount().max()) / len(labels)
    return row["loss"] is None or row["accuracy"] < chance + LEARNED * (1 - chance)


def _own(rows: Rows, noise: float, method: str) -> dict[Cell, Mapping[str, Any]]:
    """The judged runs of a method, by seed."""
    own = [c for c in rows if (c.method, c.noise) == (method, noise) and c.seed not in TUNING]
    return {c: rows[c] for c in sorted(own, key=lambda c: c.seed)}


def _line(rows: Rows, noise: float, method: str) -> Line:
    own, unit = _own(rows, noise, method), _own(rows, noise, "base")
    cell = next(iter(own))

    def values(name: str) -> list[Any]:
        return [row[name] for row in own.values()]

    return Line(
        method, noise, cell.lr, cell.rho, _edge(cell), len(own),
        passes=sum(values("passes")) / len(own) / setting(cell.data).steps(1.0),
        seconds=median(values("seconds")) / median([row["seconds"] for row in unit.values()]),
        copies=max(values("copies")),
        loss=Estimate.of(values("loss")),
        gap=Estimate.of(values("gap")),
        validation=max(scores(rows, method, noise).values()),
        accuracy=Estimate.of(values("accuracy")),
        gain=paired(rows, method, best_base(rows, noise), noise),
        collapsed=sum(collapsed(c, row) for c, row in own.items()),
    )  # fmt: skip


def _edge(cell: Cell) -> tuple[str, ...]:
    grid = list(METHODS[cell.method].trials(setting(cell.data)))
    ends = {name: {min(column), max(column)} for name, column in zip(("lr", "rho"), zip(*grid, strict=True), strict=True)}
    return tuple(name for name, found in ends.items() if len(found) == 2 and getattr(cell, name) in found)
