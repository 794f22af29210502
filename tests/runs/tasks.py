"""Tasks that workers import; files in `folder` tell the test what they do, and tell them when to go on."""

import os
import signal
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from sharpmin.runs import Store


@dataclass(frozen=True)
class Task:
    number: int
    folder: str = ""

    @property
    def id(self):
        return asdict(self)


def draw(task):
    """A matrix product, whose last digits would show the number of threads, and the global random state."""
    torch.manual_seed(task.number)
    begin, x = time.perf_counter(), torch.randn(128, 512)
    value = float((x @ x.T).softmax(1).square().sum() + torch.rand(()))
    return {"id": task.id, "value": value, "threads": torch.get_num_threads(), "seconds": time.perf_counter() - begin}


def surroundings(task):
    return {"id": task.id, "environment": dict(os.environ)}


def blocked(task):
    """Number 0 stays in its first process until that is killed."""
    pid = Path(task.folder) / "pid"
    if task.number == 0 and not pid.exists():
        (draft := pid.with_suffix(".draft")).write_text(str(os.getpid()))
        draft.rename(pid)
        time.sleep(600)
    return {"id": task.id, "pid": os.getpid()}


def raises(task):
    if task.number == 3:
        raise ZeroDivisionError("a third\nline")
    return draw(task)


def dies(task):
    os.kill(os.getpid(), signal.SIGKILL)


def of_another_version(task):
    return {"id": task.id | {"number": -1, "sharpmin": "0.0"}}


INSIDE = threading.Semaphore(1)


def alone_in_its_process(task):
    """Whether no other one is in here."""
    free = INSIDE.acquire(blocking=False)
    time.sleep(0.01)
    if free:
        INSIDE.release()
    return {"id": task.id, "alone": free}


def appends(task):
    """Thirty rows to one file, ten of which the neighbor appends, too."""
    store = Store(Path(task.folder) / "rows.jsonl")
    for number in range(20 * task.number, 20 * task.number + 30):
        store.add({"id": Task(number).id, "text": "x" * 1000})
    return {"id": task.id}
