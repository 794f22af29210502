"""Standard streams that are closed, or whose disk is full: no reason to fail, and never an exit code of 1."""

from __future__ import annotations

import os
import sys
from typing import Any


def demand_streams() -> None:
    """Give every closed one a place where nothing arrives, or the next file that is opened would take its number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is not None:
            continue
        nothing = os.open(os.devnull, os.O_RDWR)
        if nothing == number:  # it has taken the number that was free
            os.set_inheritable(number, True)
        else:
            os.dup2(nothing, number)
            os.close(nothing)
        setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115


class Deaf:
    """stderr, but what cannot be written is dropped: a message is no result."""

    def __init__(self, stream: Any):
        self._stream = stream

    def write(self, text: str) -> int:
        """Write it if that can be done."""
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            silence(self._stream)
        return len(text)

    def flush(self) -> None:
        """Each write has done so."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def silence(stream: Any) -> None:
    """Nothing arrives from here on: the interpreter flushes once more at its end, and would exit with a code of its own."""
    try:
        number = stream.fileno()
    except (OSError, ValueError):
        return  # it is none of the system's
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, number)
    os.close(nothing)
