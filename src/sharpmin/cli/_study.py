"""`sharpmin study`: SGD, SAM and its remedies on real data, a table of both sides, and a page."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._files import replace
from ._runs import Export, Jobs, Scheduler, Workers, complete, exported, place

if TYPE_CHECKING:
    from rich.table import Table

    from sharpmin.runs import Store
    from sharpmin.study import Cell, Line, Setting

    Rows = Mapping[Cell, Mapping[str, Any]]

WORDS = {
    "rho holds the loss up": "holds",
    "SAM is not what limits the loss": "free",
    "SAM speeds the descent up": "helps",
    "mixed floor": "mixed",
    "rho = 0": "off",
}
LEGEND = (
    "Mean and half of the 95 % interval over seeds. The verdict is about the training loss of the next epochs at the small "
    "learning rate of the end: rho holds it up, it is free of SAM, SAM helps it down; off: the run ends with rho = 0."
)
LONG = 300
"""Seconds from which on the time is said first."""


def study(
    data: Annotated[str, typer.Argument(help="digits, mnist1d or breast-cancer.")] = "digits",
    seeds: Annotated[int, typer.Option(help="Runs of each method.", min=1, max=1000)] = 5,
    workers: Workers = None,
    scheduler: Scheduler = None,
    out: Annotated[Path, typer.Option(help="Where study-<data>.jsonl and study-<data>.html go.")] = Path("out"),
    as_json: Annotated[bool, typer.Option("--json", help="The table as JSON.")] = False,
    export: Export = None,
    jobs: Jobs = None,
) -> None:
    """Train SGD, SAM and its remedies at equal gradient evaluations, clean and with label noise: loss, accuracy, sharpness.

    A few minutes for digits; the others say how long they take. Finished runs are kept: an interrupted study goes on
    where it stopped. Exit code 0: done. 2: bad use. 130: Ctrl-C.
    """
    from sharpmin.runs import Store, to_dataset, write_zarr
    from sharpmin.study import cells, findings, page, setting, table

    where, zarr = place(workers, scheduler, jobs), exported(export)
    chosen = setting(data)
    wanted = cells(data, seeds)
    rows_file, page_file = _files(out, data)
    store = Store(rows_file)
    _complete(chosen, store, wanted, where)
    rows = store.known(wanted)
    replace(page_file, page(chosen, rows))
    if zarr is not None:
        write_zarr(to_dataset(rows.values()), zarr)
    lines, found = table(rows), findings(rows)
    if as_json:
        record = {"study": data, "seeds": seeds, "evaluations": wanted[0].budget, "lines": [line.record() for line in lines]}
        typer.echo(json.dumps(record | {"findings": [vars(f) for f in found]}, indent=2, allow_nan=False))
        return
    from ._console import Whole

    console = Whole()
    for noise in sorted({line.noise for line in lines}):
        console.print(grid(chosen, [line for line in lines if line.noise == noise]))
    for text in (LEGEND, *(f.sentence for f in found)):
        console.print(text, markup=False, highlight=False)
    console.print(f"See {page_file}", soft_wrap=True, markup=False, highlight=False)


def _complete(chosen: Setting, store: Store, wanted: list[Cell], where: tuple[int | None, str | None]) -> None:
    """Say how long the missing runs take, if that is long, and make them."""
    from sharpmin.study import run

    missing, workers = len(wanted) - len(store.known(wanted)), where[0] or 1
    seconds = chosen.seconds * missing / min(workers, max(1, missing))
    if seconds >= LONG:
        on = " of one worker" if where[1] else ""
        sys.stderr.write(
            f"{chosen.name}: {missing} runs, about {seconds / 60:.0f} minutes{on}; Ctrl-C keeps what is finished.\n"
        )
    complete(chosen.name, run, wanted, store, where)


def grid(chosen: Setting, lines: list[Line]) -> Table:
    """One row a method, in 80 columns."""
    from rich.table import Table

    from sharpmin.study import METHODS

    title = (
        f"{chosen.name}, {lines[0].noise:.0%} of the labels drawn anew" if lines[0].noise else f"{chosen.name}, clean labels"
    )
    out = Table(box=None, pad_edge=False, header_style="bold", title=title, title_justify="left", padding=(0, 1))
    out.add_column("method", no_wrap=True)
    for name in ("loss - f*" if chosen.l2 else "training loss", "accuracy, %", "eigenvalue"):
        out.add_column(name, justify="right", no_wrap=True)
    out.add_column("verdict", min_width=11)
    for line in lines:
        loss = line.gap if chosen.l2 else line.loss
        verdicts = ", ".join(WORDS.get(word, word) + f" {count}" * (line.runs > 1) for word, count in line.verdicts.items())
        out.add_row(METHODS[line.method].title, loss.text(), line.accuracy.text(100), line.eigenvalue.text(), verdicts)
    return out


def _files(out: Path, data: str) -> tuple[Path, Path]:
    """Both files, in a folder that can be written, before anything is computed."""
    files = out / f"study-{data}.jsonl", out / f"study-{data}.html"
    try:
        out.mkdir(parents=True, exist_ok=True)
        for file in files:
            if file.is_dir():
                raise IsADirectoryError(0, f"{file.name} is a folder there")
        with files[0].open("a", encoding="utf-8"):
            pass
    except OSError as error:
        raise OSError(f"cannot write to --out {out}: {error.strerror or error}; choose a folder that can be written") from None
    return files
