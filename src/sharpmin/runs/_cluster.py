"""Tasks on a running Dask cluster, given by the address of its scheduler."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from sharpmin.core.extras import optional

from ._local import alone
from ._stop import Stopped, failed
from ._store import Row, T

distributed = optional("distributed", extra="cluster")

CONNECT = 10.0
"""Seconds to reach the scheduler."""

QUIET = 5.0
"""Seconds without a result after which the number of workers is checked."""


def require_scheduler(scheduler: str) -> None:
    """Check the address and that Dask is installed, before anything is done.

    Raises:
        ValueError: if it is not an address.
        MissingExtraError: if Dask is not installed.
    """
    if "://" not in scheduler:
        raise ValueError(
            f"{scheduler!r} is no address of a Dask scheduler; write it as tcp://{scheduler.strip() or 'host:8786'}"
        )
    _ = distributed.Client


def cluster(
    function: Callable[[T], Row], tasks: Sequence[T], scheduler: str, tell: Callable[[str], None]
) -> Generator[tuple[T, Row], None, None]:
    """Compute tasks on the workers; yields tasks with their rows as they finish."""
    try:
        if tasks:
            yield from _computed(function, tasks, scheduler, tell)
    except (distributed.comm.CommClosedError, distributed.CancelledError):  # during whichever call
        raise _lost(scheduler) from None


def _computed(
    function: Callable[[T], Row], tasks: Sequence[T], scheduler: str, tell: Callable[[str], None]
) -> Generator[tuple[T, Row], None, None]:
    with _silence(), _connected(scheduler) as client:
        name = f"sharpmin-{uuid.uuid4().hex}"  # unique keys, since tasks of another command may have other code
        keys = [f"{name}-{number:08d}" for number in range(len(tasks))]
        futures = client.map(partial(alone, function), tasks, key=keys, pure=False)
        waiting = dict(zip(keys, tasks, strict=True))
        try:
            for future, row in _finished(client, futures, scheduler, tell):
                task = waiting.pop(future.key)
                if row is not None:
                    yield task, row
                    continue
                error = future.exception()
                for other in futures:
                    if other.key in waiting and other.status == "finished":
                        yield waiting.pop(other.key), other.result()
                raise _why(task, error) from error
        finally:
            if client.status == "running":
                with suppress(OSError, RuntimeError, AttributeError):  # the connection is lost at this moment
                    client.cancel(futures)


def _finished(
    client: Any, futures: Sequence[Any], scheduler: str, tell: Callable[[str], None]
) -> Iterator[tuple[Any, Row | None]]:
    """The futures as they end, with their results, which are None after an error."""
    arrived: SimpleQueue[Any] = SimpleQueue()
    for future in futures:
        future.add_done_callback(arrived.put)
    left, idle = len(futures), False
    while left:
        try:
            future = arrived.get(timeout=QUIET)
        except Empty:
            workers = _workers(client, scheduler)
            if not workers and not idle:
                tell(f"no worker is connected to {scheduler}; waiting for one, Ctrl-C keeps what is finished")
            idle = not workers
            continue
        row: Row | None = None
        try:
            row = future.result(timeout=QUIET)
        except TimeoutError:
            if future.status != "error":  # its worker died: the task runs again
                future.add_done_callback(arrived.put)
                continue
        except distributed.CancelledError:
            raise
        except Exception:  # an error of the task, which the future has, too, or a lost connection
            pass
        if row is None and future.status != "error":
            raise _lost(scheduler)
        left, idle = left - 1, False
        yield future, row


def _workers(client: Any, scheduler: str) -> int:
    try:
        return len(client.nthreads())
    except (OSError, RuntimeError, AttributeError):  # the connection was lost during the call
        raise _lost(scheduler) from None


def _lost(scheduler: str) -> Stopped:
    return Stopped(f"the connection to the scheduler at {scheduler} was lost")


def _why(task: T, error: BaseException) -> Stopped:
    """The reason why a task failed."""
    if isinstance(error, distributed.KilledWorker):
        return Stopped(
            f"several workers died, one after the other, while they had the run {json.dumps(task.id)}: for its memory?"
        )
    return failed(task, error)


@contextmanager
def _connected(scheduler: str) -> Iterator[Any]:
    try:
        client = distributed.Client(scheduler, timeout=CONNECT, set_as_default=False, name="sharpmin")
    except (OSError, ValueError) as error:
        text = " ".join(str(error).split())
        raise Stopped(f"no Dask scheduler answers at {scheduler} ({text}); start one by: dask scheduler") from None
    try:
        yield client
    finally:
        client.close(timeout=CONNECT)


@contextmanager
def _silence() -> Iterator[None]:
    """Silence Dask's long log of a lost connection, which one message here replaces."""
    found = [logging.getLogger(name) for name in list(logging.root.manager.loggerDict) if name.startswith("distributed")]
    levels = [(log, log.level) for log in found]
    for log in found:
        log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for log, level in levels:
            log.setLevel(level)
