"""One rank of the families for several processes: it receives tasks and sends outcomes."""

from __future__ import annotations

import importlib
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path

import torch
import torch.distributed as dist

from sharpmin.core.children import end_with_parent

from ._case import registered
from ._isolate import isolated
from ._rank_trial import RankTrial
from ._report import Outcome
from ._subject import Subject
from ._suite import attempt

READY = "ready"


@dataclass(frozen=True)
class RankTask:
    """One family through one door, for every rank.

    Attributes:
        family: its id.
        door: the door.
        make: makes the subject.
        meet: the file by which the ranks connect, one for each task.
    """

    family: str
    door: str
    make: Callable[[], Subject]
    meet: Path


def serve(rank: int, world: int, folder: Path, wait: float, channel: Connection) -> None:
    """Run the tasks that are received until the caller is gone; all output goes to this rank's file in `folder`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller ends its ranks
    end_with_parent()
    _into(folder / f"{rank}.txt")
    _by_loopback()
    torch.set_num_threads(1)
    importlib.import_module("torch.distributed.fsdp")  # slow: before the clock of the first family runs
    _join(folder / "meet", rank, world, wait)
    dist.barrier()
    channel.send(READY)
    with suppress(EOFError):
        while True:
            channel.send(_play(channel.recv(), rank, world, wait))


def _play(task: RankTask, rank: int, world: int, wait: float) -> Outcome:
    """Run one family. The process group is kept until the next task, when all ranks are done with it."""
    dist.destroy_process_group()
    subject = task.make()
    _join(task.meet, rank, world, wait)
    with isolated() as seen:
        trial = RankTrial(subject, task.door, lambda: [str(entry.message) for entry in seen], rank, world)
        return attempt(registered()[task.family], trial)


def _join(meet: Path, rank: int, world: int, wait: float) -> None:
    dist.init_process_group("gloo", init_method=meet.as_uri(), rank=rank, world_size=world, timeout=timedelta(seconds=wait))


def _into(file: Path) -> None:
    """Redirect all output, also of C code, to the file."""
    target = os.open(file, os.O_WRONLY | os.O_CREAT)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.dup2(target, 1)
    os.dup2(target, 2)


def _by_loopback() -> None:
    """Connect by the loopback interface only, without looking up this machine's name."""
    names = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
    if names:
        os.environ["GLOO_SOCKET_IFNAME"] = names[0]
