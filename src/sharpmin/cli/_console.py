"""A console for tables whose numbers must not be cut."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table


class Whole(Console):
    """A console that lets a closed pipe be an error like any other, and never cuts a column that may not wrap."""

    def __init__(self) -> None:
        super().__init__()
        self.width = max(self.width, 80)

    def print(self, *objects: Any, **options: Any) -> None:
        """As of `Console`; a table that needs more than the terminal has gets what it needs."""
        for table in objects:
            if isinstance(table, Table):
                free = self.options.update(max_width=10_000)  # a measurement is cut to what the options allow
                self.width = max(self.width, Measurement.get(self, free, table).minimum)
        super().print(*objects, **options)

    def text(self, text: str) -> None:
        """Lines that break between words on a terminal, and not at all elsewhere."""
        self.print(text, markup=False, highlight=False, soft_wrap=not self.is_terminal)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError
