"""Child processes: they end with the one that started them, however that ends, and it can say how they ended."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing import connection
from multiprocessing.process import BaseProcess


def end_with_parent() -> None:
    """Call it in a child of `multiprocessing`: killed, a parent cannot tell its children, and each would keep its memory."""
    if (parent := multiprocessing.parent_process()) is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)


def how_it_ended(process: BaseProcess, patience: float) -> str:
    """In a few words, after so many seconds at most: an exit code, or a signal."""
    process.join(patience)
    code = process.exitcode
    if code is None:
        return "it runs on, without a line to us"
    return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
