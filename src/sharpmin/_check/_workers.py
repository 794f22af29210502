"""Processes on this machine that run families together, with time limits.

If a rank ends, or waits too long for another one, all processes are killed, the family has failed with a line that says so,
and the next family gets new processes.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType

import torch.distributed as dist

from sharpmin.core.children import how_it_ended
from sharpmin.core.text import printable

from ._case import Family
from ._rank import RankTask, serve
from ._rank_trial import by_rank
from ._remote import RemoteSubject, starter
from ._report import Outcome, Report
from ._subject import Subject
from ._suite import Here, best, play

MOST = 8
LIMIT = 60.0  # seconds for one family through one door (ours take less than one)
PATIENCE = 3.0  # seconds for the other ranks, once one has failed
START = 300.0  # seconds to import torch and to connect


def require_world(world: int) -> None:
    """Raise for a number of ranks that cannot be used here.

    Raises:
        ValueError: below 2 or above 8, or without torch's gloo.
    """
    if not 2 <= world <= MOST:
        raise ValueError(f"--ranks {world}: give 2 to {MOST}; every rank is a process on this machine")
    if not dist.is_available() or not dist.is_gloo_available():
        raise ValueError(f"--ranks {world}: this build of torch has no gloo, so processes on a CPU cannot connect")


class Workers:
    """`world` processes that run one family after another; started on first use.

    Args:
        world: the number of processes.
        limit: seconds for one family through one door.
        patience: seconds for the other ranks, once one has failed.

    Raises:
        ValueError: for a number below 2 or above 8, or without gloo.
    """

    def __init__(self, world: int, limit: float = LIMIT, patience: float = PATIENCE):
        require_world(world)
        self.world, self.limit, self.patience = world, limit, patience
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._ranks: list[tuple[BaseProcess, Connection]] = []
        self._tasks = 0

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def examine(self, chosen: Family, make: Callable[[], Subject], doors: Iterable[str]) -> Outcome:
        """Run one family through every door; returns the first failure, or the best outcome.

        Args:
            chosen: the family.
            make: constructs the subject in every process; it must pickle.
            doors: the doors of the subject.

        Raises:
            ChildProcessError: if the processes could not be started.
        """
        doors = list(doors)
        return best([self._through(chosen, make, door, f"{door}: " if len(doors) > 1 else "") for door in doors])

    def _through(self, chosen: Family, make: Callable[[], Subject], door: str, prefix: str) -> Outcome:
        folder = self._start()
        self._tasks += 1
        task = RankTask(chosen.id, door, make, folder / f"meet{self._tasks}")
        try:
            for _, told in self._ranks:
                with suppress(BrokenPipeError):  # it has died, which is noticed below
                    told.send(task)
            answers, trouble = self._answers(folder)
        except BaseException:
            self.stop()
            raise
        failed = {rank: answer for rank, answer in sorted(answers.items()) if answer.status == "failed"}
        if trouble:
            self.stop()
            texts = [f"rank {rank}: {answer.observed}" for rank, answer in failed.items()]
            return chosen.outcome("failed", "; ".join([*texts, prefix + trouble]))
        listed = [answers[rank] for rank in range(self.world)]
        if len(failed) < 2:
            return best(listed)
        said = [answer.observed if answer.status == "failed" else answer.status for answer in listed]
        return chosen.outcome("failed", by_rank(said), min(failed.items())[1].right)

    def _answers(self, folder: Path) -> tuple[dict[int, Outcome], str]:
        """The answers of the ranks, and the reason if some did not answer."""
        answers: dict[int, Outcome] = {}
        end = time.monotonic() + self.limit
        while len(answers) < self.world:
            missing = {rank: entry for rank, entry in enumerate(self._ranks) if rank not in answers}
            if not wait([told for _, told in missing.values()], max(0.0, end - time.monotonic())):
                return answers, self._late(list(missing), answers)
            for rank, (process, told) in missing.items():
                if not told.poll():
                    continue
                try:
                    answers[rank] = told.recv()
                except (EOFError, OSError):
                    return {}, _death(rank, process, folder)
                if answers[rank].status == "failed":
                    end = min(end, time.monotonic() + self.patience)
        return answers, ""

    def _late(self, missing: list[int], answers: dict[int, Outcome]) -> str:
        names = ", ".join(map(str, missing))
        who = f"rank {names} was" if len(missing) == 1 else f"ranks {names} were"
        if any(answer.status == "failed" for answer in answers.values()):
            return f"{who} left waiting"
        return f"{who} not done after {self.limit:g} s, as if waiting for another rank"

    def _start(self) -> Path:
        if self._folder is not None:
            return Path(self._folder.name)
        self._folder = tempfile.TemporaryDirectory(prefix="sharpmin-", ignore_cleanup_errors=True)
        folder = Path(self._folder.name)
        context = starter()
        try:
            for rank in range(self.world):
                told, theirs = context.Pipe()
                arguments = (rank, self.world, folder, max(START, self.limit), theirs)
                process = context.Process(target=serve, args=arguments, daemon=True)
                process.start()
                theirs.close()  # so that the end of the process closes the pipe
                self._ranks.append((process, told))
            self._require_started(folder)
        except BaseException:
            self.stop()
            raise
        return folder

    def _require_started(self, folder: Path) -> None:
        end = time.monotonic() + START
        for rank, (process, told) in enumerate(self._ranks):
            if not told.poll(max(0.0, end - time.monotonic())):
                raise ChildProcessError(f"--ranks {self.world}: rank {rank} has not started after {START:g} s")
            try:
                told.recv()
            except EOFError:
                said = _death(rank, process, folder)
                raise ChildProcessError(f"--ranks {self.world}: could not start {self.world} processes: {said}") from None

    def stop(self) -> None:
        """Kill the processes, if there are any, and delete their output."""
        for process, _ in self._ranks:
            process.kill()
        for process, told in self._ranks:
            process.join()
            told.close()
        self._ranks = []
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


def _death(rank: int, process: BaseProcess, folder: Path) -> str:
    """One line on how a rank ended, with its last output."""
    how = how_it_ended(process, PATIENCE)
    file = folder / f"{rank}.txt"
    written = file.read_text(errors="replace").split("\n") if file.exists() else []
    last = [line.strip() for line in written if line.strip()][-1:]
    return f"rank {rank} died ({how})" + "".join(f": {printable(line[:200])}" for line in last if process.exitcode)


def run_on_ranks(
    make: Callable[[], Subject],
    world: int,
    one: RemoteSubject | Here,
    chosen: Iterable[Family],
    watch: Callable[[Family], None] | None = None,
) -> Report:
    """Run families: those of one process by `one`, the others on `world` processes.

    Args:
        make: constructs the subject in every process.
        world: the number of processes.
        one: the same subject for families of one process.
        chosen: the families.
        watch: called with every family before it runs.

    Raises:
        ValueError: for a number of ranks below 2 or above 8.
        ChildProcessError: if the processes could not be started.
    """
    with Workers(world) as workers:

        def examine(family: Family) -> Outcome:
            return workers.examine(family, make, one.doors) if family.ranks else one.examine(family)

        return play(chosen, examine, watch)
