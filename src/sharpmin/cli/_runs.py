"""Sweeps of a command: where they run, their progress, and what is kept when they stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from ._interrupt import Interrupted

if TYPE_CHECKING:
    from sharpmin.runs import Row, Store, Task

T = TypeVar("T", bound="Task")

Workers = Annotated[
    int | None, typer.Option(help="Processes on this machine, each with one thread; by default 2.", min=1, max=1024)
]
Scheduler = Annotated[
    str | None, typer.Option(help="A Dask scheduler, such as tcp://host:8786, whose workers are used instead.")
]
Export = Annotated[Path | None, typer.Option(help="Also write the runs as labeled data, a Zarr store such as runs.zarr.")]
Jobs = Annotated[str | None, typer.Option("--jobs", hidden=True)]


def place(workers: int | None, scheduler: str | None, jobs: str | None = None) -> tuple[int | None, str | None]:
    """Where to compute runs: `workers` processes, by default two, or the cluster at `scheduler`.

    Raises:
        ValueError: if both are given, or an option of earlier versions, or a scheduler that is not an address.
        MissingExtraError: if a scheduler is given and Dask is not installed.
    """
    if jobs is not None:
        raise ValueError(f"--jobs is called --workers now; for example: --workers {jobs}")
    if workers is not None and scheduler is not None:
        raise ValueError(
            "--workers and --scheduler cannot both be given: a cluster has workers of its own; leave one of them out"
        )
    if scheduler is not None:
        from sharpmin.runs._cluster import require_scheduler

        require_scheduler(scheduler)
        return None, scheduler
    return 2 if workers is None else workers, None


def exported(path: Path | None) -> Path | None:
    """The path that `--export` writes to, checked before anything is computed.

    Raises:
        ValueError, OSError: if it cannot be written there.
        MissingExtraError: if zarr is not installed.
    """
    from sharpmin.runs import zarr_target

    try:
        return None if path is None else zarr_target(path)
    except (ValueError, OSError) as error:
        raise type(error)(f"--export: {error}") from None


def complete(
    name: str,
    function: Callable[[T], Row],
    wanted: Sequence[T],
    store: Store,
    where: tuple[int | None, str | None],
    *,
    unit: str = "runs",
    uses_torch: bool = True,
) -> None:
    """Compute the tasks that the store lacks, with progress on stderr; each result is on disk before it is counted.

    Args:
        name: the name of the sweep, for the line on stderr.
        function: computes the row of a task.
        wanted: all tasks, including finished ones.
        store: the store that keeps the rows.
        where: the result of `place`.
        unit: the name of the runs, in the plural.
        uses_torch: whether the function does.

    Raises:
        Interrupted: after Ctrl-C.
        OSError: if a run fails, a worker is lost, or a row cannot be written. All messages say what is kept.
    """
    from sharpmin.runs import Stopped, compute

    from ._progress import progress

    done = store.known(wanted)
    missing = [task for task in wanted if task not in done]
    workers, scheduler = where
    try:
        with progress(name, unit, len(wanted), finished=len(done)) as counter:
            rows = compute(function, missing, workers=workers, scheduler=scheduler, tell=counter.say, uses_torch=uses_torch)
            with closing(rows):
                for row in counter.each(rows):
                    store.add(row)
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; {_kept(store, wanted, unit)}") from None
    except Stopped as error:
        raise OSError(f"{error}; {_kept(store, wanted, unit)}") from error
    except OSError as error:
        raise OSError(f"a finished run could not be written: {error.strerror or error}; {_kept(store, wanted, unit)}") from None


def _kept(store: Store, wanted: Sequence[T], unit: str) -> str:
    from sharpmin.runs import Store

    finished = len(Store(store.path).known(wanted))  # counted on disk, since Ctrl-C may come before a written row is counted
    return f"{finished} of {len(wanted)} {unit} are in {store.path}, and the same command goes on from there"
