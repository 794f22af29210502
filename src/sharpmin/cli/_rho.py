"""`sharpmin rho`: find a rho to start with for a task of the study, by trying a grid on copies of its first steps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from . import _names

if TYPE_CHECKING:
    from sharpmin.diagnostics.rho_range import Progress

BATCHES = 8
"""Batches at the starting weights."""


def rho(
    task: Annotated[
        str, typer.Argument(help=f"{', '.join(_names.DATA[:-1])} or {_names.DATA[-1]}.", autocompletion=_names.tasks)
    ],
    grid: Annotated[str, typer.Option(help="The radii, numbers > 0 with commas.")] = "0.01,0.02,0.05,0.1,0.2,0.5,1,2",
    steps: Annotated[
        int, typer.Option(help="Steps of a short run at each radius, at least 20; 0: only gradients at the start.", min=0)
    ] = 60,
    noisy: Annotated[bool, typer.Option("--noisy", help="With 40 % label noise.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of weights, labels and batches.", min=0, max=2**31)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Every number as one JSON document.")] = False,
) -> None:
    """Try a grid of radii on the first steps of a task.

    It says what each radius does, where the run collapses, and which value to start with. How many gradients that takes
    is said beforehand, on stderr.

    Exit code 0: done. 2: bad use. 130: Ctrl-C.
    """
    radii = _radii(grid)
    _names.require("task", task, _names.DATA)
    from sharpmin.diagnostics import rho_range
    from sharpmin.study import CLEAN, NOISY, begin

    begun = begin(task, NOISY if noisy else CLEAN, seed, steps or BATCHES)
    with _told(task, begun.seconds) as progress:
        found = rho_range(begun.model, begun.opt, begun.step, begun.batches, rhos=radii, steps=steps or None, progress=progress)
    if as_json:
        head = {"task": task, "noise": NOISY if noisy else CLEAN, "seed": seed}
        typer.echo(json.dumps(head | found.record(), indent=2, allow_nan=False))
    else:
        from ._console import Whole

        Whole().text(found.explain())


def _radii(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--grid {text!r} must be numbers > 0 with commas; for example: --grid 0.05,0.1,0.2") from None


@contextmanager
def _told(task: str, seconds: float) -> Iterator[Progress]:
    """Print the cost of the test, then its progress, on stderr."""
    from rich.console import Console

    from ._progress import Counter, progress

    console, counters = Console(stderr=True), list[Counter]()
    with ExitStack() as stack:

        def reached(done: int, whole: int) -> None:
            if not counters:
                about = max(1, round(2 * seconds * whole))  # the test also reads each gradient several times
                console.print(f"{task}: {whole} gradient evaluations, about {about} s", highlight=False, markup=False)
                counters.append(stack.enter_context(progress(task, "gradients", whole, console=console)))
            counters[0].reach(done)

        yield reached
