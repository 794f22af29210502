"""Writers for the rows of a watched run: JSON lines that survive a kill and a full disk, or the user's callables."""

from __future__ import annotations

import errno
import json
import os
import stat
import weakref
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from sharpmin.optim._scope import rank_and_world

from .rows import Row, Writer, finite

WAITING = 4096
"""Most rows that wait while the disk is full."""


class JsonLines:
    """Appends rows to a file, each in one write: readable while it grows, whole up to its last line.

    If the last line of an existing file has no newline, one is added first, so that the next row stays whole. A row that
    cannot be written waits until the next call.

    Args:
        path: the file; its folder must exist. An existing one is continued.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "run.jsonl"
    >>> _ = path.write_text('{"kind": "st')
    >>> JsonLines(path)({"kind": "step", "step": 0, "gg": float("inf")})
    >>> path.read_text().splitlines()
    ['{"kind": "st', '{"kind": "step", "step": 0, "gg": "inf"}']
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._file = self.path.open("ab", buffering=0)
        self._closing = weakref.finalize(self, self._file.close)
        self._waiting: deque[bytes] = deque(maxlen=WAITING)
        self._doubt = True
        self.lost = 0
        """Rows that were dropped because too many were waiting."""

    def __repr__(self) -> str:
        return f"JsonLines({str(self.path)!r})"

    def __call__(self, row: Row) -> None:
        """Write the waiting rows and this one.

        Raises:
            OSError: if it cannot be written, such as on a full disk; it waits then.
        """
        self.lost += len(self._waiting) == WAITING
        self._waiting.append((json.dumps(finite(row), allow_nan=False) + "\n").encode())
        while self._waiting:
            line = (b"\n" if self._doubt and self._may_be_torn() else b"") + self._waiting[0]
            self._doubt = True  # until the line is written completely
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, "no room for a whole row", str(self.path))
            self._doubt = False
            self._waiting.popleft()

    def _may_be_torn(self) -> bool:
        """Whether the file ends without a newline, as after a kill or on a full disk; True if it cannot be read."""
        found = os.fstat(self._file.fileno())
        if not stat.S_ISREG(found.st_mode) or not found.st_size:
            return False
        try:
            with self.path.open("rb") as file:
                file.seek(-1, os.SEEK_END)
                return file.read(1) != b"\n"
        except OSError:
            return True  # an empty line does no harm

    def close(self) -> None:
        """Close the file."""
        self._closing()


def opened(to: str | Path | Writer | Sequence[str | Path | Writer] | None) -> list[Writer]:
    """A writer for each; for a path, on the first rank of a distributed run only, so that each row is written once.

    >>> len(opened([print, print]))
    2
    """
    first = rank_and_world()[0] == 0
    several = [] if to is None else [to] if isinstance(to, (str, Path)) or callable(to) else to
    out: list[Writer] = []
    for one in several:
        if not isinstance(one, (str, Path)):
            out.append(one)
        elif first:
            out.append(JsonLines(one))
    return out
