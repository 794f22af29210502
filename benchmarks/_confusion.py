"""The verdicts of `sharpmin.diagnose` on the stored runs of `_ordinary.py`, compared with their branches."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from _ordinary import Ordinary

import sharpmin as sm
from sharpmin.diagnostics import Diagnosis, Log, State

CLEAR = 0.01
"""An effect above this share of the loss, and above two standard errors of the pairs, is clear."""
ALIVE = 0.8
"""A run is healthy if its last loss is below this share of log(classes); above it, it had collapsed if rho = 0 frees it."""


@dataclass(frozen=True)
class Judged:
    """One moment of one run: the verdict and the true answer."""

    cell: Ordinary
    part: float
    said: Diagnosis
    fall: float
    error: float
    loss: float
    collapsed: bool
    healthy: bool

    @property
    def clear(self) -> bool:
        """Whether the effect in the branches is clear."""
        return abs(self.fall) > max(CLEAR * self.loss, 2 * self.error)

    @property
    def near(self) -> bool:
        """Whether the predicted fall is within a factor 3."""
        return 1 / 3 <= self.said.numbers.fall / self.fall <= 3


def judged(found: Mapping[Ordinary, Mapping[str, Any]]) -> list[Judged]:
    """All moments of all runs."""
    return [one for cell, row in found.items() for one in _moments(cell, row)]


def _moments(cell: Ordinary, row: Mapping[str, Any]) -> Iterator[Judged]:
    for moment in row["moments"]:
        log = Log()
        for own in row["rows"]:
            if own["kind"] == "run" or own["last"] < moment["step"]:
                log.add(own)
        said = sm.diagnose(log, lr=_rates(moment))
        fall, error, loss = truth(moment, said.numbers.horizon)
        stuck = row["last"] > ALIVE * math.log(row["classes"])
        yield Judged(cell, moment["step"] / row["steps"], said, fall, error, loss, stuck and fall > CLEAR * loss, not stuck)


def _rates(moment: Mapping[str, Any]) -> Any:
    """The learning rate as a function of a future step."""
    sums, size, first = moment["lr"], moment["size"], moment["step"]
    return lambda step: sums[min((step - first) // size, len(sums) - 1)] / size


def truth(moment: Mapping[str, Any], steps: int) -> tuple[float, float, float]:
    """The fall of the loss within `steps` steps of rho = 0 (mean, standard error over pairs), and the loss with rho."""
    with_rho, without = (np.array([pair[i] for pair in moment["pairs"]]) for i in (0, 1))
    falls = with_rho - without
    at = (0.5 + np.arange(falls.shape[1])) * moment["size"]
    slope = (falls[:, -1] - falls[:, -2]) / moment["size"]  # up to the end of the last segment
    values = [np.interp(steps, at, own) + s * max(0.0, steps - at[-1]) for own, s in zip(falls, slope, strict=True)]
    return float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(len(values)), float(with_rho[:, 0].mean())


def share(part: int, whole: int) -> str:
    """A count with its percentage."""
    return f"{part}/{whole} ({part / whole:.0%})" if whole else "0/0"


def table(rows: Sequence[Judged], name: str) -> None:
    """The confusion table of the rules."""
    clear = [r for r in rows if r.clear]
    up = [r for r in clear if r.fall > 0]
    held = [r for r in rows if r.said.state in (State.HOLDS, State.COLLAPSE)]
    right = [r for r in held if r.fall > r.error]
    free = [r for r in rows if r.said.state is State.FREE]
    sized = [r for r in held if r.clear and r.fall > 0]
    print(
        f"{name:22} {len(rows):4} moments, {len(clear):3} clear | holds right {share(len(right), len(held)):15} "
        f"found {share(sum(r in held for r in up), len(up)):15} "
        f"free wrong {share(sum(r in up for r in free), len(free)):10} "
        f"sign {share(sum((r.said.numbers.fall > 0) == (r.fall > 0) for r in clear), len(clear)):15} "
        f"within 3 {share(sum(r.near for r in sized), len(sized))}"
    )


def collapse(rows: Sequence[Judged]) -> None:
    """Collapsed runs with the verdict a fifth into the run; and false alarms, where rho = 0 does not help.

    An alarm where rho = 0 helps is right, also for a run that recovered by itself later; those are counted, too.
    """
    early = [r for r in rows if r.part < 0.25]
    gone, others = [r for r in early if r.collapsed], {r.cell for r in rows if r.healthy}
    said = [r for r in gone if r.said.state is State.COLLAPSE]
    alarms = [r for r in rows if r.said.state is State.COLLAPSE and r.healthy]
    false = {r.cell for r in alarms if r.fall <= r.error}
    print(
        f"collapse by a fifth of the run: found {share(len(said), len(gone))}; false in {len(false)} of {len(others)} others; "
        f"{len({r.cell for r in alarms} - false)} were stuck at the time and got away later"
    )


def by(rows: Iterable[Judged], key: str) -> None:
    """A table for each value of a part of the setting."""
    groups: dict[Any, list[Judged]] = {}
    for row in rows:
        groups.setdefault(getattr(row.cell, key), []).append(row)
    for value, group in sorted(groups.items(), key=lambda item: str(item[0])):
        table(group, f"  {key} {value}")


def misses(rows: Iterable[Judged]) -> None:
    """Every wrong verdict, with its numbers."""
    for r in rows:
        n, state = r.said.numbers, r.said.state
        wrong = state in (State.HOLDS, State.COLLAPSE) and r.fall <= r.error
        wrong |= state is State.FREE and r.clear and r.fall > 0
        wrong |= state is State.HELPS and r.clear and r.fall > 0
        if wrong:
            c = r.cell
            print(
                f"  {c.data} noise {c.noise} {c.base} {c.schedule} rho {c.rho} at {r.part:.0%}: {state.value}; predicted "
                f"{n.fall / r.loss:+.2%}, true {r.fall / r.loss:+.2%} +- {r.error / r.loss:.2%}; kappa {n.cancelled}"
            )


def of_ordinary(found: Mapping[Ordinary, Mapping[str, Any]]) -> None:
    """All tables about runs with changing learning rates."""
    rows = judged(found)
    for name, held_out in (("rules made on", False), ("held out", True)):
        part = [r for r in rows if r.cell.held_out is held_out]
        if part:
            table(part, name)
            collapse(part)
            for key in ("schedule", "data", "base"):
                by(part, key)
            print("wrong:")
            misses(part)
