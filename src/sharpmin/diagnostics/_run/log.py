"""The rows of a run, sorted by kind: from a probe, or from a file that may be truncated or mixed with other runs."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from pathlib import Path

from sharpmin.core.text import block

from .rows import Row, whole

STEPS, BLOCKS = 65_536, 8192
"""The newest rows of each kind that are kept from a file: some 100 MB."""

LONGEST = 2**16
"""Most bytes of a line that is read as a row."""

_BACK = "the run came back to step"


class Log:
    """The rows of a run, sorted by kind, with remarks on what could not be read.

    If the run is resumed from an earlier checkpoint or restarted, its new steps replace those of the same numbers. Rows
    of an earlier run, which still writes to the same file, are left out.

    Attributes:
        first: the first block of the run, which is kept when old blocks are dropped.

    Args:
        room: how many of the newest steps are kept; None for all.
        blocks: how many of the newest blocks are kept; by default `room`.

    >>> log = Log()
    >>> for step in (0, 1, 2, 3, 4, 3, 4, 1):
    ...     log.add({"kind": "step", "step": step})
    >>> [row["step"] for row in log.steps], log.remarks
    ([0, 1], ['the run came back to step 1; the steps that it had taken from there are left out'])
    """

    def __init__(self, room: int | None = None, blocks: int | None = None):
        self.run: Row = {}
        self.first: Row | None = None
        self.steps: deque[Row] = deque(maxlen=room)
        self.blocks: deque[Row] = deque(maxlen=room if blocks is None else blocks)
        self._noted: dict[str, str] = {}
        self._others: Counter[str] = Counter()
        self._known: set[str] = set()

    def __str__(self) -> str:
        """What is kept of the run.

        >>> log = Log()
        >>> log.add({"kind": "run", "version": 2, "base": "SGD"})
        >>> log.add({"kind": "step", "step": 0, "loss": 0.5, "rho": 0.05})
        >>> print(log)
        log of a watched run
          base    SGD
          steps   1     newest: 0
          blocks  0
          rho     0.05  of the newest step
          loss    0.5   of the newest step
        """
        newest = self.steps[-1] if self.steps else {}
        rows = [
            ("base", self.run.get("base")),
            ("steps", len(self.steps), f"newest: {newest['step']:.0f}" if newest else ""),
            ("blocks", len(self.blocks), f"of {self.run['block']} steps" if self.run.get("block") else ""),
            ("rho", newest.get("rho"), "of the newest step"),
            ("loss", newest.get("loss"), "of the newest step"),
        ]
        return block("log of a watched run", rows, self.remarks)

    @property
    def remarks(self) -> list[str]:
        """What was left out, and why; one sentence each."""
        return list(self._noted.values())

    def note(self, subject: str, remark: str) -> None:
        """Add a remark; it replaces an earlier one on the same subject."""
        self._noted.pop(subject, None)
        self._noted[subject] = remark

    def add(self, row: Row) -> None:
        """Add one row."""
        if row["kind"] == "run":
            self._begin(row)
        elif self._is_of_another(row):
            return
        elif row["kind"] == "step":
            again = _drop(self.steps, "step", row["step"])
            _drop(self.blocks, "last", row["step"])
            if again > 1:  # 1 would be a skipped step, whose number is used again
                self.note("back", f"{_BACK} {row['step']:.0f}; the steps that it had taken from there are left out")
            self.steps.append(row)
        else:
            _drop(self.blocks, "last", row["first"])
            self.blocks.append(row)
            if self.first is None or row["first"] <= self.first["first"]:
                self.first = row

    def _begin(self, row: Row) -> None:
        if self.run and _setting(row) != _setting(self.run) and (self.steps or self.blocks):
            self.note(
                "setting",
                "rows of another run, or of this one with another setting, are left out",
            )
            self.steps.clear()
            self.blocks.clear()
            self.first = None
        if "id" in self.run:
            self._known.add(self.run["id"])
        self.run = row

    def _is_of_another(self, row: Row) -> bool:
        """Whether the row is of an earlier run that still writes to this file."""
        own = row.get("id")
        if own is None or own == self.run.get("id") or own not in self._known:
            return False
        self._others[own] += 1
        count, several = self._others.total(), len(self._others) > 1
        whose = f"{len(self._others)} other runs" if several else "another run"
        self.note("others", f"{count} rows of {whose} that wrote to the same file are left out; give each its own file")
        return True


def _drop(rows: deque[Row], key: str, number: float) -> int:
    """Drop the rows from this number on; returns how many."""
    before = len(rows)
    while rows and rows[-1][key] >= number:
        rows.pop()
    return before - len(rows)


_PASSING = ("time", "id", "version", "sharpmin", "torch", "momentum", "beta1")  # the last two may follow a schedule


def _setting(row: Row) -> Row:
    return {k: v for k, v in row.items() if k not in _PASSING}


def read(path: str | Path) -> Log:
    """Read the log of a file of any size; only the newest rows are kept.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if no line of it is a row of a watched run.
    """
    return collect(_lines(Path(path)), str(path))


def _lines(path: Path) -> Iterator[str]:
    """The lines of a file; of a line longer than `LONGEST` only the beginning."""
    with path.open("rb") as file:
        while line := file.readline(LONGEST):
            yield line.decode("utf-8", errors="replace")
            while line and not line.endswith(b"\n"):
                line = file.readline(LONGEST)


def collect(lines: Iterable[str], name: str) -> Log:
    """The log of lines; foreign or broken ones are counted, not fatal."""
    log, broken, count = Log(STEPS, BLOCKS), list[int](), 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            log.add(whole(json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            broken = [*broken, number][:4]
            count += 1
    if not log.steps and not log.run:
        raise ValueError(f"{name}: no line is a row of a watched run; write one with sharpmin.watch(..., to={name!r})")
    if count:
        shown = ", ".join(map(str, broken[:3])) + (", ..." if len(broken) > 3 else "")
        what = "1 line could not be read and is" if count == 1 else f"{count} lines could not be read and are"
        log.note("broken", f"{what} left out (number {shown})")
    return log
