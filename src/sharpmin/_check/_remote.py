"""Checks a SAM in a process of its own, so that a crash, an exit or an endless loop is reported and the check goes on.

The process imports and constructs the SAM, runs one family after another, and answers in JSON. If it dies or exceeds the time
limit, that family has failed with a line that says so, and the next family gets a new process.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import recv_handle, send_handle
from types import TracebackType
from typing import Any

import torch

from sharpmin.core import children
from sharpmin.core.children import METHOD, end_with_parent, how_it_ended

from ._case import Family, raised, registered
from ._report import STATUSES, Outcome
from ._subject import Subject
from ._suite import examine

LIMIT = 60.0
"""Seconds for one family through all doors (ours take less than one); a tenth of it after the first timeout."""

START = 300.0
"""Seconds to import and construct the SAM."""

PATIENCE = 5.0
"""Seconds to wait for a process to end."""

_MAKING = "importing and making the SAM to check"


def starter() -> Any:
    """The `multiprocessing` context of a check: new processes, forked from one that has imported what the first step loads."""
    return children.starter("sharpmin._check._suite", "torch._dynamo")


class RemoteSubject:
    """A subject in another process, which is started on first use.

    Args:
        make: constructs the subject in that process; it must pickle.
        limit: seconds for one family.

    Attributes:
        name: that of the subject.
        doors: its doors.

    Raises:
        ValueError: if it could not be constructed, with the reason in one line.
    """

    def __init__(self, make: Callable[[], Subject], limit: float = LIMIT):
        self._make, self._limit = make, limit
        self._process: BaseProcess | None = None
        self.name, self.doors = self._start()

    def __enter__(self) -> RemoteSubject:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def examine(self, chosen: Family) -> Outcome:
        """Run one family through every door, in that process."""
        try:
            if self._process is None:
                self._start()
            self._told.send(chosen.id)
            return _outcome(chosen, self._answer(self._limit))
        except TimeoutError:
            said = f"was not done after {self._limit:g} s"
            self._limit = min(self._limit, LIMIT / 10)
        except (EOFError, BrokenPipeError):
            said = self._death()
        except ValueError as error:
            said = str(error)
        except BaseException:
            self.stop()
            raise
        self.stop()
        return chosen.outcome("failed", said)

    def stop(self) -> None:
        """Kill the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._told.close()
            self._process = None

    def _start(self) -> tuple[str, tuple[str, ...]]:
        context = starter()
        self._told, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(self._make, theirs, os.getcwd()), daemon=True)
        process.start()
        self._process = process
        theirs.close()  # so that the end of the process closes the pipe
        try:
            if METHOD == "forkserver":
                _send_stderr(self._told, process)
            hello = json.loads(self._answer(START))
            if "refused" in hello:
                raise ValueError(str(hello["refused"]))
        except TimeoutError:
            self.stop()
            raise ValueError(f"{_MAKING} was not done after {START:g} s") from None
        except (EOFError, BrokenPipeError):
            said = self._death()
            self.stop()
            raise ValueError(f"{_MAKING} failed: {said}") from None
        except BaseException:
            self.stop()
            raise
        return str(hello["name"]), tuple(map(str, hello["doors"]))

    def _answer(self, seconds: float) -> str:
        """Wait for the answer of the process.

        Raises:
            TimeoutError: if there is no answer in time.
            EOFError: if it has ended.
        """
        if not self._told.poll(seconds):
            raise TimeoutError
        answer: bytes = self._told.recv_bytes()
        return answer.decode()

    def _death(self) -> str:
        assert self._process is not None  # noqa: S101  # for mypy
        return f"its process died ({how_it_ended(self._process, PATIENCE)})"


def _send_stderr(channel: Connection, process: BaseProcess) -> None:
    with open(os.devnull, "wb") as nothing:
        try:
            send_handle(channel, 2, process.pid)
        except OSError:  # it is closed
            send_handle(channel, nothing.fileno(), process.pid)


def _outcome(chosen: Family, text: str) -> Outcome:
    """Parse the answer of a process that runs untrusted code.

    Raises:
        ValueError: if it is not an outcome.
    """
    try:
        status, observed, right = json.loads(text)
    except ValueError:
        raise ValueError("answered with something else than an outcome") from None
    if status not in STATUSES:
        raise ValueError("answered with something else than an outcome")
    return chosen.outcome(status, str(observed), str(right))


def _serve(make: Callable[[], Subject], channel: Connection, folder: str) -> None:
    """Run the families that are requested until the caller is gone; all output, also of C code, goes to stderr."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller ends it
    end_with_parent()
    if METHOD == "forkserver":
        os.dup2(recv_handle(channel), 2)  # the fork server may have another stderr
    os.dup2(2, 1)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    torch.set_num_threads(1)
    path = list(sys.path)
    try:
        subject = make()
        sys.path.extend(place for place in path if place not in sys.path)  # later imports still need these folders
    except (ValueError, TypeError) as error:
        _send(channel, {"refused": str(error)})
        return
    except BaseException as error:
        _send(channel, {"refused": f"{_MAKING} {raised(error)}"})
        return
    _send(channel, {"name": subject.name, "doors": subject.doors})
    while True:
        try:
            chosen = registered()[channel.recv()]
        except EOFError:
            return
        try:
            found = examine(chosen, subject)
        except BaseException as error:
            found = chosen.outcome("failed", raised(error))
        _send(channel, (found.status, found.observed, found.right))


def _send(channel: Connection, what: Any) -> None:
    channel.send_bytes(json.dumps(what).encode())
