"""Computes rows of independent tasks in this process, in processes of this machine or on a Dask cluster."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from typing import Any

from ._cluster import cluster, require_scheduler
from ._local import here, pool
from ._stop import Stopped
from ._store import Row, T, key


def compute(
    function: Callable[[T], Row],
    tasks: Iterable[T],
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    tell: Callable[[str], None] | None = None,
    uses_torch: bool = True,
) -> Generator[Row, None, None]:
    """Compute `function(task)` for each task, and yield the rows as they finish.

    Every task runs in one thread (`torch.set_num_threads(1)`, put back afterwards), and alone in its process. So a function
    that sets its seeds returns the same row, bit for bit, wherever it runs, as long as the processors are of one kind. To end
    early, close the iterator (`contextlib.closing`): tasks that have not started are cancelled.

    Args:
        function: a module's own function, which the workers can import; its row has the task's `id`.
        tasks: hashable, each with an `id`; those with equal ids are computed once.
        workers: processes on this machine; None or 1 is this process.
        scheduler: the address of a Dask scheduler, such as "tcp://host:8786". A task whose worker dies runs again on another.
        tell: takes a line that a person should read, such as that the cluster has no worker at present.
        uses_torch: False for a function that does without torch: on this machine it is then neither imported nor set up.

    Raises:
        ValueError: if `workers` is less than 1, both are given, or `scheduler` is not an address.
        MissingExtraError: if `scheduler` is given and Dask is not installed, or a task needs a package that is not.
        Stopped: while rows are taken, once those that are finished have been yielded: if a task fails, a process of the pool
            dies, the scheduler cannot be reached or is lost, a task loses several workers, or a row is not of the task that
            was asked for, as it happens where a worker has another version.

    >>> from dataclasses import asdict, dataclass
    >>> @dataclass(frozen=True)
    ... class Square:
    ...     of: int
    ...     id = property(asdict)
    >>> for row in compute(lambda task: {"id": task.id, "value": task.of**2}, [Square(2), Square(3), Square(2)]):
    ...     print(row)
    {'id': {'of': 2}, 'value': 4}
    {'id': {'of': 3}, 'value': 9}
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers={workers}: there must be at least one")
    if workers is not None and scheduler is not None:
        raise ValueError(
            f"workers={workers} and scheduler={scheduler!r}: a cluster has workers of its own; leave one of them out"
        )
    different = list({key(task.id): task for task in tasks}.values())
    if scheduler is not None:
        require_scheduler(scheduler)
        return _asked_for(cluster(function, different, scheduler, tell or (lambda _: None)))
    if workers in (None, 1):
        return _asked_for(here(function, different, uses_torch))
    return _asked_for(pool(function, different, workers or 1, uses_torch))


def _asked_for(pairs: Generator[tuple[T, Row], None, None]) -> Generator[Row, None, None]:
    """The rows, checked to have the ids of their tasks."""
    with closing(pairs):
        for task, row in pairs:
            if key(row.get("id", {})) != key(task.id):
                raise Stopped(
                    f"a worker computed another run than the one it was given ({_difference(task.id, row.get('id', {}))}); "
                    "it must have the same sharpmin, torch and files as this process"
                )
            yield row


def _difference(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """The fields of two ids that differ, in words."""
    names = [name for name in {**ours, **theirs} if json.dumps(ours.get(name)) != json.dumps(theirs.get(name))]
    return ", ".join(f"{name}: {theirs.get(name)!r} there, {ours.get(name)!r} here" for name in names)
