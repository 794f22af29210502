"""`Live`: a line in the terminal that shows, during a run, what the two gradients of its steps say about rho."""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sharpmin.core.extras import optional
from sharpmin.diagnostics import Diagnosis, Log, diagnose
from sharpmin.diagnostics._run.stretch import LEAST_BLOCKS

from ._numbers import shown

if TYPE_CHECKING:
    from rich import console as consoles
    from rich import control, segment, text
else:
    consoles, control, segment, text = (
        optional(f"rich.{name}", extra="cli") for name in ("console", "control", "segment", "text")
    )

SECONDS = 0.25  # seconds between two updates
STYLES = {0: "green", 10: "bold red", 20: "yellow"}  # by exit code


class Live:
    """Shows the newest step in one line, updated in place: `sm.watch(opt, to=["run.jsonl", Live()])`.

    Step, loss, rho and learning rate at most four times a second; from five blocks on also the share of the gradient that SAM
    cancels, and the verdict so far. If the console is not a terminal, nothing is written. `Live` redirects no stream and hides
    no cursor, so a progress bar on another stream is not disturbed.

    Args:
        console: a `rich.console.Console`; by default one on stderr.
        clock: returns the time in seconds.

    Raises:
        MissingExtraError: if rich is not installed.
    """

    def __init__(self, console: consoles.Console | None = None, *, clock: Callable[[], float] = time.monotonic):
        self._console = consoles.Console(stderr=True) if console is None else console
        self._silent = not self._console.is_terminal or self._console.is_dumb_terminal
        self._clock, self._due = clock, -math.inf
        self._log = Log(room=64)
        self._found: Diagnosis | None = None
        self._judged = True  # whether the verdict includes all blocks so far
        self._begun: list[bool] = []  # not empty while the cursor stands behind the line
        self._end = weakref.finalize(self, _newline, self._console, self._begun)

    def __call__(self, row: dict[str, Any]) -> None:
        """Show a row of a watched run."""
        if self._silent:
            return
        self._log.add(row)
        self._judged = self._judged and row["kind"] == "step"
        if row["kind"] == "step" and self._clock() >= self._due:
            self._draw()

    def close(self) -> None:
        """Show the last step and end the line; without this call the line is ended at exit."""
        if not self._silent and self._log.steps and self._end.alive:
            self._draw()
        self._end()
        self._silent = True

    def __enter__(self) -> Live:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _draw(self) -> None:
        self._due = self._clock() + SECONDS
        if not self._judged:
            self._found, self._judged = self._diagnosed(), True
        back = control.Control(segment.ControlType.CARRIAGE_RETURN, (segment.ControlType.ERASE_IN_LINE, 2))
        with self._console as console:  # one write
            console.control(back)
            console.print(self._line(), end="", no_wrap=True, overflow="crop", width=console.width - 1)
        self._begun[:] = [True]

    def _diagnosed(self) -> Diagnosis | None:
        try:
            return diagnose(self._log)
        except ValueError:  # too few blocks, or rho has just changed
            return None

    def _line(self) -> text.Text:
        row, found = self._log.steps[-1], self._found
        parts = [f"step {row['step']}"]
        parts += [f"{name} {float(row[name]):.4g}" for name in ("loss", "rho", "lr") if row.get(name) is not None]
        line = text.Text("  ".join(parts) + "  ")
        if found is None:
            return line.append(f"block {min(len(self._log.blocks), LEAST_BLOCKS)} of {LEAST_BLOCKS}", "dim")
        line.append(f"kappa {shown(found.numbers.resolved, percent=True)}  ")
        return line.append(found.headline, STYLES[found.exit_code])


def _newline(console: consoles.Console, begun: list[bool]) -> None:
    if begun:
        console.line()
