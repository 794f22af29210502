"""Text of somebody else, on its way to a terminal or a page."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with a question mark for every character that would not be shown as itself.

    >>> printable("SGD\\x1b[31m")
    'SGD?[31m'
    """
    return "".join(c if c.isprintable() else "?" for c in text)
