"""The rows of a study on disk, one JSON line a run, appended as they finish: an interrupted study goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

import torch

from sharpmin.core.children import end_with_parent

from ._run import Cell, run

Row: TypeAlias = dict[str, Any]


class Identified(Hashable, Protocol):
    """A run by its setting."""

    @property
    def id(self) -> dict[str, Any]:
        """All that decides the result."""


C = TypeVar("C", bound=Identified)


class Store:
    """A file of rows; those of other settings, or of another sharpmin or torch, stay in it, unread.

    Each row has a checksum over all else in it: one that was cut off, mixed with another or changed is run again.
    """

    def __init__(self, path: Path):
        self.path = path
        self._rows: dict[str, Row] = {}
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        self._torn = bool(text) and not text.endswith("\n")
        for line in text.split("\n"):
            try:
                row = json.loads(line)
                if row.pop("checksum") == _checksum(row):
                    self._rows[_key(row["id"])] = row
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                continue

    def known(self, wanted: Iterable[C]) -> dict[C, Row]:
        """The finished ones, in the order of `wanted`: runs with an `id` of all that decides their result."""
        keys = ((cell, _key(cell.id)) for cell in wanted)
        return {cell: self._rows[key] for cell, key in keys if key in self._rows}

    def add(self, row: Row) -> None:
        """Append a row, in one write that is flushed to the disk."""
        with self.path.open("a", encoding="utf-8") as file:
            line = json.dumps({**row, "checksum": _checksum(row)}, allow_nan=False)
            file.write(("\n" if self._torn else "") + line + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._torn = False
        self._rows[_key(row["id"])] = row


def _checksum(row: Mapping[str, Any]) -> str:
    return hashlib.sha256(_key(row).encode()).hexdigest()[:16]


def _key(id_: Mapping[str, Any]) -> str:
    return json.dumps(id_, sort_keys=True)


def compute(missing: Sequence[Cell], jobs: int) -> Iterator[Row]:
    """Rows as they finish, each from a process with one thread; with one job, from this process.

    Raises:
        BrokenProcessPool: if a process dies.
    """
    if jobs == 1:
        yield from _here(missing)
        return
    context, before = multiprocessing.get_context("spawn"), set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(min(jobs, max(1, len(missing))), context, initializer=_worker)
    try:
        for future in as_completed([pool.submit(run, cell) for cell in missing]):
            yield future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()


def _here(missing: Sequence[Cell]) -> Iterator[Row]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield from map(run, missing)
    finally:
        torch.set_num_threads(threads)


def _worker() -> None:
    """One thread; Ctrl-C is for the process that started us, and its end is ours."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    end_with_parent()
