"""Progress of long commands on stderr: a live line on a terminal, elsewhere a plain line from time to time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

Piece = TypeVar("Piece")

LINES = 10
"""The number of progress lines off a terminal; fewer if there are fewer pieces of work."""

EVERY = 30.0
"""Seconds without a line after which one is printed in any case."""

APART = 5.0
"""The shortest time between two lines, in seconds; the last line is exempt."""

FEW = 5
"""Off a terminal, work of fewer pieces than this only gets the lines printed after `EVERY` seconds of silence."""


def remaining(done: int, total: int, elapsed: float) -> float | None:
    """Estimated seconds until the rest is done, at the pace so far; None while nothing is done.

    >>> remaining(3, 12, elapsed=60.0)
    180.0
    """
    return elapsed / done * (total - done) if done else None


def duration(seconds: float) -> str:
    """Seconds as text, in at most two units.

    >>> duration(8.4), duration(126), duration(3900)
    ('8 s', '2 min 6 s', '1 h 5 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def to_go(done: int, total: int, elapsed: float) -> str:
    """The remaining time as text; empty if it is unknown or nothing is left.

    >>> to_go(3, 12, elapsed=60.0), to_go(0, 12, elapsed=9.0), to_go(12, 12, elapsed=240.0)
    ('about 3 min 0 s to go', '', '')
    """
    left = remaining(done, total, elapsed)
    return f"about {duration(left)} to go" if left else ""


def due(done: int, total: int) -> bool:
    """Whether a line is due when `done` pieces are done: `LINES` times in all, the last time with the last piece.

    >>> [done for done in range(1, 91) if due(done, 90)][:4], due(90, 90), due(3, 3)
    ([9, 18, 27, 36], True, False)
    """
    return total >= FEW and done * LINES // total > (done - 1) * LINES // total


class Counter:
    """Counts finished pieces of work and prints the count; made by `progress`."""

    def __init__(self, name: str, unit: str, total: int, finished: int, console: Console, clock: Callable[[], float]):
        self._name, self._unit, self._total, self._before = name, unit, total, finished
        self._console, self._clock, self._begin = console, clock, clock()
        self._line = self._begin
        self._done = finished
        self._terminal = console.is_terminal and not console.is_dumb_terminal
        name_and_bar = TextColumn("{task.description:18}"), BarColumn(bar_width=20), MofNCompleteColumn()
        times = TimeElapsedColumn(), TextColumn("{task.fields[left]}")
        self.bar = Progress(*name_and_bar, *times, console=console, transient=True, disable=not self._terminal)
        self._task = self.bar.add_task(name, total=total, completed=finished, left="")

    def doing(self, what: str) -> None:
        """Show the name of the piece in progress in the bar."""
        self.bar.update(self._task, description=what)

    def say(self, line: str) -> None:
        """Print a line, on a terminal above the bar."""
        self._console.print(f"{self._name}: {line}", soft_wrap=True, markup=False, highlight=False)

    def each(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        """Iterate over the pieces; each is counted when the next one is requested."""
        for piece in pieces:
            yield piece
            self._count()

    def reach(self, done: int) -> None:
        """Set the number of finished pieces."""
        while self._done < done:
            self._count()

    def still(self) -> None:
        """Off a terminal, print a line if there has been none for `EVERY` seconds."""
        if not self._terminal and self._clock() - self._line >= EVERY:
            self._tell(self._clock())

    def _count(self) -> None:
        self._done += 1
        now = self._clock()
        self.bar.update(self._task, completed=self._done, left=self._left(now))
        since = self._begin if self._done == self._total else self._line
        if not self._terminal and due(self._done, self._total) and now - since >= APART:
            self._tell(now)

    def _left(self, now: float) -> str:
        return to_go(self._done - self._before, self._total - self._before, now - self._begin)

    def _tell(self, now: float) -> None:
        self._line = now
        done = f"{self._name}: {self._done} of {self._total} {self._unit}"
        parts = done, duration(now - self._begin), self._left(now)
        self._console.print(", ".join(filter(None, parts)), soft_wrap=True, markup=False, highlight=False)


@contextmanager
def progress(
    name: str,
    unit: str,
    total: int,
    *,
    finished: int = 0,
    console: Console | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Counter]:
    """Count pieces of work on stderr, with the remaining time estimated from those of this run.

    Args:
        name: the name of the work.
        unit: the name of the pieces, in the plural.
        total: the number of pieces.
        finished: the number of pieces that an earlier run has done; they do not enter the estimate.
        console: the console to print on; by default stderr.
        clock: returns the time in seconds.
    """
    counter = Counter(name, unit, total, finished, Console(stderr=True) if console is None else console, clock)
    with counter.bar, _every(EVERY, counter.still):
        yield counter


@contextmanager
def heartbeat(name: str, *, console: Console | None = None, every: float = EVERY) -> Iterator[Callable[[str], None]]:
    """Progress of work of unknown length: yields a function that is called with the status to show.

    Args:
        name: the name of the work.
        console: the console to print on; by default stderr.
        every: seconds between two lines, off a terminal.
    """
    console = Console(stderr=True) if console is None else console
    begin, known = time.monotonic(), [""]

    def say() -> None:
        line = ", ".join(filter(None, (known[0], duration(time.monotonic() - begin))))
        console.print(f"{name}: {line}", soft_wrap=True, markup=False, highlight=False)

    if console.is_terminal and not console.is_dumb_terminal:
        with console.status(name) as status:
            yield lambda text: status.update(f"{name}: {text}")
    else:
        with _every(every, say):
            yield lambda text: known.__setitem__(0, text)


@contextmanager
def _every(seconds: float, action: Callable[[], None]) -> Iterator[None]:
    """Call `action` every `seconds` seconds, in a thread, until the block ends."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(seconds):
            action()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
