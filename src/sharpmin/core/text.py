"""Text for a terminal: printable forms of untrusted text, and blocks of aligned lines for `print`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

WIDTH = 100
"""Columns of what `print` shows."""


def printable(text: str) -> str:
    r"""Replace every character that is not printable by a question mark.

    >>> printable("SGD\x1b[31m")
    'SGD?[31m'
    """
    return "".join(c if c.isprintable() else "?" for c in text)


def block(title: str, rows: Iterable[tuple[object, ...]], notes: Sequence[str] = ()) -> str:
    """A title, an aligned line for each row, and notes.

    Args:
        title: the first line.
        rows: (name, value) or (name, value, remark); a row with the value None is left out.
        notes: sentences without their full stop; long ones are wrapped.

    >>> print(block("step 3", [("rho", 0.05), ("loss", 1 / 3, "at w"), ("gain", None)], ["rho is constant"]))
    step 3
      rho   0.05
      loss  0.3333  at w
      Note: rho is constant.
    """
    cells = [(str(name), brief(value), *map(str, rest)) for name, value, *rest in rows if value is not None]
    names, values = (max((len(cell[at]) for cell in cells), default=0) for at in (0, 1))
    lines = [f"  {name:{names}}  {value:{values}}  {' '.join(rest)}".rstrip() for name, value, *rest in cells]
    return "\n".join([title, *lines, *(line for note in notes for line in wrapped(f"Note: {note}.", "  "))])


def wrapped(text: str, indent: str = "") -> list[str]:
    """The lines of a text, at most `WIDTH` columns wide."""
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


def brief(value: object) -> str:
    """A value in few characters: four digits, yes or no, the ends of an interval.

    >>> brief(1 / 3), brief(True), brief((0.5, 2.0)), brief(1_000_000), brief("SGD")
    ('0.3333', 'yes', '0.5 to 2', '1000000', 'SGD')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return " to ".join(map(brief, value)) if isinstance(value, tuple) else str(value)
