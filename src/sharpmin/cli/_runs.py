"""Sweeps of a command: where they run, how far they are, and what is kept when they stop."""

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
Export = Annotated[Path | None, typer.Option(help="Also write the runs as labelled data, a Zarr store such as runs.zarr.")]
Jobs = Annotated[str | None, typer.Option("--jobs", hidden=True)]


def place(workers: int | None, scheduler: str | None, jobs: str | None = None) -> tuple[int | None, str | None]:
    """Where runs are computed, by default in two processes.

    Raises:
        ValueError: if both are given, or an option of earlier versions, or a scheduler that is no address.
        MissingExtraError: if there is a scheduler, and Dask is not installed.
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
    """Where `--export` writes, asked before anything is computed.

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
) -> None:
    """Run what the store does not have, and say on stderr how far it is; each run is on the disk before it is counted.

    Args:
        name: of the sweep, for the line on stderr.
        function: computes a row.
        wanted: all tasks, the finished ones included.
        store: takes the rows.
        where: as `place` gives it.
        unit: what is counted, in the plural.

    Raises:
        Interrupted: after Ctrl-C.
        OSError: if a run fails, what computes is lost, or a row cannot be written. All messages say what is kept.
    """
    from sharpmin.runs import Stopped, compute

    from ._progress import progress

    done = store.known(wanted)
    missing = [task for task in wanted if task not in done]
    workers, scheduler = where
    try:
        with progress(name, unit, len(wanted), finished=len(done)) as counter:
            rows = compute(function, missing, workers=workers, scheduler=scheduler, tell=counter.say)
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

    finished = len(Store(store.path).known(wanted))  # what is on the disk: Ctrl-C may come while a row is being counted
    return f"{finished} of {len(wanted)} {unit} are in {store.path}, and the same command goes on from there"
