"""Rows on disk, one JSON line for each run, appended as they finish, so that an interrupted sweep can go on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

Row: TypeAlias = dict[str, Any]
"""The result of one task: the task's `id`, and values that JSON can hold."""


class Task(Hashable, Protocol):
    """The setting of a run: hashable and picklable; equal tasks have equal results."""

    @property
    def id(self) -> dict[str, Any]:
        """All that decides the result, as JSON values: the setting, and the versions of what computes."""


T = TypeVar("T", bound=Task)


class Store:
    """A file of rows; rows of other settings, or of another sharpmin or torch, are kept in it but not used.

    Each row has a checksum; runs whose row was truncated, mixed with another or changed are computed again. Several
    commands may append to one file; a run that two of them have finished counts once.

    Args:
        path: of the file, which is created with the first row.

    >>> import tempfile
    >>> from dataclasses import asdict, dataclass
    >>> @dataclass(frozen=True)
    ... class Square:
    ...     of: int
    ...     id = property(asdict)
    >>> store = Store(Path(tempfile.mkdtemp()) / "squares.jsonl")
    >>> store.add({"id": {"of": 3}, "value": 9})
    >>> Store(store.path).known([Square(2), Square(3)])
    {Square(of=3): {'id': {'of': 3}, 'value': 9}}
    """

    def __init__(self, path: Path):
        self.path = path
        self._rows: dict[str, Row] = {}
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        for line in text.split("\n"):
            try:
                row = json.loads(line)
                if row.pop("checksum") == _checksum(row):
                    self._rows.setdefault(key(row["id"]), row)
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                continue

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r}): {len(self._rows)} rows"

    def known(self, wanted: Iterable[T]) -> dict[T, Row]:
        """The rows of those tasks that are finished, in the order of `wanted`."""
        keys = ((task, key(task.id)) for task in wanted)
        return {task: self._rows[k] for task, k in keys if k in self._rows}

    def add(self, row: Row) -> None:
        """Append a row in one write, flushed to the disk; a row whose id is known is ignored.

        Raises:
            OSError: if it could not be written whole; it does not count then, and the next one begins a new line.
            ValueError: if a value is not finite, since JSON has no nan.
        """
        if key(row["id"]) in self._rows:
            return
        line = json.dumps({**row, "checksum": _checksum(row)}, allow_nan=False) + "\n"
        with self.path.open("ab+", buffering=0) as file:
            data = ("\n" * _torn(file) + line).encode()
            if (count := file.write(data)) != len(data):  # the disk is full
                file.write(data[count:])  # raises the system's error, or completes the row
            os.fsync(file.fileno())
        self._rows[key(row["id"])] = row


def _torn(file: Any) -> bool:
    """Whether the file does not end with a newline: an earlier command was killed, or its disk was full."""
    if not file.seek(0, os.SEEK_END):
        return False
    file.seek(-1, os.SEEK_END)
    return bool(file.read(1) != b"\n")


def _checksum(row: Mapping[str, Any]) -> str:
    return hashlib.sha256(key(row).encode()).hexdigest()[:16]


def key(id_: Mapping[str, Any]) -> str:
    """An id as text, independent of the order of its fields."""
    return json.dumps(id_, sort_keys=True)
