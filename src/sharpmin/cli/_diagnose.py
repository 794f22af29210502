"""`sharpmin diagnose`: whether rho holds a run up: the verdict, the numbers, a page with figures, an exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharpmin.core.jsonable import jsonable

from ._files import replace, writable
from ._interrupt import Interrupted

if TYPE_CHECKING:
    from sharpmin.diagnostics import Diagnosis, Log


def diagnose(
    run: Annotated[Path, typer.Argument(help="The JSON lines that sharpmin.watch(..., to='run.jsonl') writes.")],
    blocks: Annotated[
        int | None,
        typer.Option(
            help="How many of the newest blocks to read; by default those within which rho, lr and loss changed little.",
            min=5,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Verdict, numbers and window as one JSON document.")] = False,
    html: Annotated[str | None, typer.Option(help="A page with figures that works offline, such as run.html.")] = None,
) -> None:
    """Say whether rho is what holds a run up.

    It reads the two gradients of each step that sharpmin.watch has logged.

    Exit code 0: rho does not hold it up. 10: rho does. 20: open, run the toggle (docs/plateau.md). 2: bad use, or no log.
    """
    target = None if html is None else writable("--html", html, (".html",))
    from sharpmin.diagnostics import diagnose as verdict

    log = _read(run)
    found = verdict(log, blocks=blocks)
    if target is not None:
        from sharpmin.report import diagnosis_page

        replace(target, diagnosis_page(found, log, run.name))
    try:
        if as_json:
            typer.echo(json.dumps(record(found), indent=2, allow_nan=False))
        else:
            _print(found, target)
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; {'nothing was written' if target is None else f'the page is {target}'}") from None
    raise typer.Exit(found.exit_code)


def _read(run: Path) -> Log:
    from sharpmin.diagnostics._run.log import read

    try:
        return read(run)
    except OSError as error:
        end = "give the file that sharpmin.watch(..., to='run.jsonl') writes; for example: sharpmin diagnose run.jsonl"
        raise OSError(f"cannot read {run}: {error.strerror or error}; {end}") from None


def record(found: Diagnosis) -> dict[str, Any]:
    """The diagnosis as JSON-ready values; None where a number is not determined or not finite."""
    floor, window = found.floor, found.window
    gap = None
    if floor is not None:
        gap = {name: getattr(floor, name) for name in ("bias", "bias_low", "bias_high", "noise", "of_rho", "of_noise")}
        gap["replacement"] = floor.replacement
    whole: dict[str, Any] = jsonable(
        {
            "state": found.state.value,
            "headline": found.headline,
            "exit_code": found.exit_code,
            "sentences": found.sentences,
            "numbers": found.numbers.asdict(),
            "floor": gap,
            "window": {key: getattr(window, key) for key in ("first", "last", "steps", "blocks", "rho", "lr")},
            "remarks": found.remarks,
        }
    )
    return whole


def _print(found: Diagnosis, page: Path | None) -> None:
    from rich.table import Table
    from rich.text import Text

    from sharpmin.report._numbers import entries

    from ._console import Whole

    console, window = Whole(), found.window
    console.print(Text(found.headline, style={0: "bold green", 10: "bold red", 20: "bold yellow"}[found.exit_code]))
    for sentence in found.sentences:
        console.print(sentence, markup=False, highlight=False)
    told = f"steps {window.first} to {window.last}, {window.blocks} blocks, rho {window.rho:.4g}, lr {window.lr:.4g}"
    grid = Table(box=None, pad_edge=False, header_style="bold", title=told, title_justify="left")
    grid.add_column("number", no_wrap=True)
    grid.add_column("value", justify="right", no_wrap=True)
    grid.add_column("", justify="right", no_wrap=True)
    grid.add_column("", no_wrap=True)
    for entry in entries(found):
        grid.add_row(entry.name, entry.text, entry.around, entry.kind if entry.around else "")
    grid.add_row("horizon of the fall, steps", str(found.numbers.horizon))
    console.print()
    console.print(grid)
    console.print()
    if page is None:
        console.print(
            "What each number says, and its limits: the page that --html run.html writes.", markup=False, highlight=False
        )
    for remark in found.remarks:
        console.print(f"Note: {remark}.", markup=False, highlight=False)
    if page is not None:
        console.print(f"The page is {page}", markup=False, highlight=False, soft_wrap=True)
