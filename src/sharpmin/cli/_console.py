"""A console that never truncates the numbers of a table."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table


class Whole(Console):
    """A console that raises `BrokenPipeError` for a closed pipe, and never truncates a column that may not wrap."""

    def __init__(self) -> None:
        super().__init__()
        self.width = max(self.width, 80)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print like `Console`; a table wider than the terminal is printed at its full width."""
        for table in objects:
            if isinstance(table, Table):
                free = self.options.update(max_width=10_000)  # a measurement never exceeds the width in the options
                self.width = max(self.width, Measurement.get(self, free, table).minimum)
        super().print(*objects, **options)

    def text(self, text: str) -> None:
        """Print text, wrapped between words on a terminal and unwrapped elsewhere."""
        self.print(text, markup=False, highlight=False, soft_wrap=not self.is_terminal)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError
