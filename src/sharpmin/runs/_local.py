"""Tasks in this process, and in processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

from sharpmin.core.children import end_with_parent, starter
from sharpmin.core.errors import MissingExtraError

from ._stop import Stopped, failed
from ._store import Row, T

_ONE = threading.Lock()


def alone(function: Callable[[T], Row], task: T, uses_torch: bool = True) -> Row:
    """Run one task in one thread, and no two at once in a process, since all threads share torch's random state."""
    if not uses_torch:
        return function(task)
    import torch  # noqa: PLC0415  # a second and a half, for nothing where only NumPy computes

    with _ONE:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return function(task)
        finally:
            torch.set_num_threads(threads)


def here(function: Callable[[T], Row], tasks: Sequence[T], uses_torch: bool = True) -> Generator[tuple[T, Row], None, None]:
    """Run the tasks one after the other in this process."""
    for task in tasks:
        try:
            row = alone(function, task, uses_torch)
        except MissingExtraError:
            raise
        except Exception as error:
            raise failed(task, error) from error
        yield task, row


def pool(
    function: Callable[[T], Row], tasks: Sequence[T], workers: int, uses_torch: bool = True
) -> Generator[tuple[T, Row], None, None]:
    """Run the tasks in worker processes, which end with this process."""
    module = function.__module__
    preload = ["torch"] * uses_torch + [module] * module.startswith("sharpmin.")  # others may do anything when imported
    context = starter(*preload)
    before = set(multiprocessing.active_children())
    executor = ProcessPoolExecutor(min(workers, max(1, len(tasks))), context, initializer=_worker, initargs=(dict(os.environ),))
    try:
        waiting = {executor.submit(alone, function, task, uses_torch): task for task in tasks}
        for future in as_completed(list(waiting)):
            task = waiting.pop(future)
            if (error := future.exception()) is None:
                yield task, future.result()
                continue
            for other, its in waiting.items():
                if other.done() and not other.exception():
                    yield its, other.result()
            if isinstance(error, MissingExtraError):
                raise error
            if isinstance(error, BrokenProcessPool):
                raise Stopped("a process was killed, perhaps for its memory, and fewer workers need less") from error
            raise failed(task, error) from error
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()


def _worker(environment: dict[str, str]) -> None:
    """Set up a worker: it has the parent's environment, ignores Ctrl-C, which the parent handles, and ends with the parent."""
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
