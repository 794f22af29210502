"""Child processes: how they begin, that they end with their parent, and how they ended."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from typing import Any

METHOD = "forkserver" if sys.platform == "linux" else "spawn"
"""How new processes begin. Elsewhere the system's libraries may crash in a process that was forked after they were loaded."""


def starter(*preload: str) -> Any:
    """The `multiprocessing` context for new processes.

    On Linux they are forked from a process of their own that imports these modules once, so that a child need not. It begins
    with the first child and ends with this process; the children have the environment variables of that moment.
    """
    context: Any = multiprocessing.get_context(METHOD)
    if METHOD == "forkserver":
        context.set_forkserver_preload(list(preload))
    return context


def end_with_parent() -> None:
    """Call this in a child of `multiprocessing`: it then ends with its parent, even if that is killed."""
    if (parent := multiprocessing.parent_process()) is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)


def how_it_ended(process: BaseProcess, patience: float) -> str:
    """The exit code or signal of a process in words; waits at most `patience` seconds."""
    process.join(patience)
    code = process.exitcode
    if code is None:
        return "it runs on, without a line to us"
    return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
