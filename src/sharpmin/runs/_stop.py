"""The exception that ends a sweep early."""

from __future__ import annotations

import json

from ._store import Task


class Stopped(RuntimeError):
    """The runs cannot go on; the message says why. Every row that was finished before has been yielded."""


def failed(task: Task, error: BaseException) -> Stopped:
    """The exception for a task that raised."""
    text = " ".join(str(error).split())
    return Stopped(f"the run {json.dumps(task.id)} failed: {type(error).__name__}{': ' * bool(text)}{text}")
