"""A report as plain text, 80 columns wide, nothing cut off."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from ._case import Outcome, Report

WIDTH = 80


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
    """What there is to say of an outcome besides its title."""
    if outcome.status == "failed":
        return [f"observed: {outcome.observed}", f"right: {outcome.right}", f"fix: {outcome.fix}"]
    return [] if outcome.status == "passed" else [outcome.observed]


def _lines(outcome: Outcome, names: int, words: int) -> Iterator[str]:
    head = f"{outcome.family:{names}}  {outcome.status:{words}}  "
    for part in (outcome.title, *details(outcome)):
        for line in textwrap.wrap(part, WIDTH - len(head), break_on_hyphens=False) or [""]:
            yield f"{head}{line}".rstrip()
            head = " " * len(head)
