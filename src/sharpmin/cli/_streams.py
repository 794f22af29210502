"""Standard streams that are closed, or whose disk is full: they must not cause a failure, nor exit code 1."""

from __future__ import annotations

import os
import sys
from typing import Any


def require_streams() -> None:
    """Redirect closed standard streams to the null device, or the next file that is opened would get their number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is not None:
            continue
        nothing = os.open(os.devnull, os.O_RDWR)
        if nothing == number:  # the lowest free number is that of the closed stream
            os.set_inheritable(number, True)
        else:
            os.dup2(nothing, number)
            os.close(nothing)
        setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115


class Deaf:
    """stderr that drops what cannot be written, since messages are not results."""

    def __init__(self, stream: Any):
        self._stream = stream

    def write(self, text: str) -> int:
        """Write if possible."""
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            silence(self._stream)
        return len(text)

    def flush(self) -> None:
        """Do nothing: each write has flushed."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def silence(stream: Any) -> None:
    """Redirect the stream to the null device, since the interpreter's flush at exit would change the exit code."""
    try:
        number = stream.fileno()
    except (OSError, ValueError):
        return  # not backed by a file descriptor
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, number)
    os.close(nothing)
