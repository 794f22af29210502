"""The outcomes of the suite, and their table as plain text, 80 columns wide."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Status = Literal["passed", "failed", "not offered", "not applicable"]
STATUSES: tuple[Status, ...] = get_args(Status)
WIDTH = 80


@dataclass(frozen=True)
class Outcome:
    """The outcome of one family.

    Attributes:
        family: its short name, such as "golden-step".
        title: the property in a few words.
        status: "passed"; "failed"; "not offered", where the optimizer has no way to express the scenario; or "not
            applicable", where the set-up has nothing to check.
        observed: what was seen, or why the scenario could not be run.
        right: what is right, known independently of the code under test.
        fix: what to do about it.
        faults: numbers of the known faults that the family detects.
    """

    family: str
    title: str
    status: Status
    observed: str
    right: str
    fix: str
    faults: tuple[int, ...] = ()

    def __str__(self) -> str:
        return "\n".join(_lines(self, len(self.family), len(self.status)))

    def record(self) -> dict[str, Any]:
        """A plain dict, ready for JSON."""
        return {**asdict(self), "faults": list(self.faults)}


@dataclass(frozen=True)
class Report:
    """The outcomes of one run, in order; iterate over it, or print it.

    Attributes:
        outcomes: one a family.
    """

    outcomes: tuple[Outcome, ...]

    @property
    def ok(self) -> bool:
        """Whether no family failed."""
        return not self.failed

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """The families that failed."""
        return tuple(outcome for outcome in self.outcomes if outcome.status == "failed")

    @property
    def summary(self) -> str:
        """The counts in one line.

        >>> Report(()).summary
        '0 families: 0 passed, 0 failed, 0 not offered'
        """
        statuses = [outcome.status for outcome in self.outcomes]
        words: list[Status] = ["passed", "failed", "not offered"]
        if "not applicable" in statuses:
            words[2:] = ["not offered", "not applicable"] if "not offered" in statuses else ["not applicable"]
        counts = ", ".join(f"{statuses.count(word)} {word}" for word in words)
        return f"{len(statuses)} {'family' if len(statuses) == 1 else 'families'}: {counts}"

    def __iter__(self) -> Iterator[Outcome]:
        return iter(self.outcomes)

    def __len__(self) -> int:
        return len(self.outcomes)

    def __str__(self) -> str:
        return text(self)

    __repr__ = __str__


def text(report: Report) -> str:
    """The table that `print(report)` shows: what failed comes with the observed value, the right one and the fix.

    >>> print(text(Report((Outcome("a", "b", "failed", "1", "2", "count"),))))
    a  failed  b
               observed: 1
               right: 2
               fix: count
    1 family: 0 passed, 1 failed, 0 not offered
    """
    names = max((len(outcome.family) for outcome in report), default=0)
    words = max((len(outcome.status) for outcome in report), default=0)
    lines = [line for outcome in report for line in _lines(outcome, names, words)]
    return "\n".join([*lines, report.summary])


def details(outcome: Outcome) -> list[str]:
    """The lines of an outcome below its title."""
    if outcome.status == "failed":
        return [f"observed: {outcome.observed}", f"right: {outcome.right}", f"fix: {outcome.fix}"]
    return [] if outcome.status == "passed" else [outcome.observed]


def _lines(outcome: Outcome, names: int, words: int) -> Iterator[str]:
    head = f"{outcome.family:{names}}  {outcome.status:{words}}  "
    for part in (outcome.title, *details(outcome)):
        for line in textwrap.wrap(part, WIDTH - len(head), break_on_hyphens=False) or [""]:
            yield f"{head}{line}".rstrip()
            head = " " * len(head)
