"""`sharpmin study`: SGD, SAM and its cheaper variants on real data, all tuned alike: accuracy against cost, and a page."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import _names
from ._files import replace
from ._runs import Export, Jobs, Scheduler, Workers, complete, exported, place

if TYPE_CHECKING:
    from rich.table import Table

    from sharpmin.runs import Row, Store
    from sharpmin.study import Cell, Line, Place, Setting
    from sharpmin.study._trials import Rows

    Where = tuple[int | None, str | None]

LEGEND = (
    "Passes and processor time are relative to the base optimizer at length 1. Accuracy after the last step, and gain over the "
    "base at the length with the best validation accuracy: mean and half of the 95 % interval over seeds. Place: + on the "
    "frontier, - dominated, -- clearly dominated by a method with no more passes. *: at an end of its grid."
)
PLACES = {"frontier": "+", "dominated": "-", "clearly dominated": "--"}
LONG = 60
"""Sweeps that take longer than this many seconds are announced with their time."""
SUFFIXES = (".jsonl", ".html", ".csv", ".tex")


def study(
    data: Annotated[
        str, typer.Argument(help=f"{', '.join(_names.DATA)}, or all of them: all.", autocompletion=_names.data)
    ] = "digits",
    seeds: Annotated[int, typer.Option(help="Seeds on which the chosen settings are tested.", min=1, max=1000)] = 5,
    workers: Workers = None,
    scheduler: Scheduler = None,
    out: Annotated[Path, typer.Option(help="The folder for study-<data>.jsonl, .html, .csv and .tex.")] = Path("out"),
    as_json: Annotated[bool, typer.Option("--json", help="The table as JSON.")] = False,
    export: Export = None,
    jobs: Jobs = None,
) -> None:
    """Measure what SAM buys on real data, and at what cost.

    SGD, SAM and cheaper variants by passes and test accuracy, each tuned by 12 trials, with clean and with noisy labels.
    Five minutes for digits; the others, and all, say how long they take. Finished runs are kept: the same command goes on
    where it stopped.

    Exit code 0: done. 2: bad use. 130: Ctrl-C.
    """
    _names.require("data set", data, _names.data())
    from sharpmin.study import SETTINGS, setting

    where, zarr = place(workers, scheduler, jobs), exported(export)
    chosen = list(SETTINGS.values()) if data == "all" else [setting(data)]
    files = [_files(out, s.name) for s in chosen]
    records: list[object] = []
    every: list[Row] = []
    for s, (rows_file, *pages) in zip(chosen, files, strict=True):
        rows = _complete(s, rows_file, seeds, where)
        _write(s, rows, pages)
        every += map(dict, rows.values())
        if as_json:
            records.append(_record(s, rows, seeds))
        else:
            _show(s, rows, pages[0])
    if zarr is not None:
        from sharpmin.runs import to_dataset, write_zarr

        write_zarr(to_dataset(every), zarr)
    if as_json:
        typer.echo(json.dumps(records if data == "all" else records[0], indent=2, allow_nan=False))


def _complete(chosen: Setting, file: Path, seeds: int, where: Where) -> Rows:
    """Run all trials, then the chosen settings on the test seeds."""
    from sharpmin.runs import Store
    from sharpmin.study import judged, run, trials

    store, tuning = Store(file), trials(chosen.name)
    _announce(chosen, store, tuning, seeds, where)
    complete(f"{chosen.name}, trials", run, tuning, store, where)
    rows = store.known(tuning)
    final = judged(rows, chosen.name, seeds)
    complete(f"{chosen.name}, seeds", run, final, store, where)
    return {**rows, **store.known(final)}


def _announce(chosen: Setting, store: Store, tuning: list[Cell], seeds: int, where: Where) -> None:
    """Print the expected time if it is long."""
    from sharpmin.study import METHODS, judged

    known = store.known(tuning)
    if len(known) == len(tuning):
        final = judged(known, chosen.name, seeds)
        missing = [*({*final} - {*store.known(final)})]
    else:  # which settings will be tested is not known yet, but their length is
        one_each = {(cell.method, cell.noise): cell for cell in tuning}.values()
        missing = [cell for cell in tuning if cell not in known] + [cell for cell in one_each for _ in range(seeds)]
    passes = sum(cell.steps * (METHODS[cell.method].promised or 1.5) for cell in missing)
    minutes = passes * chosen.seconds / (where[0] or 1) / 60
    if 60 * minutes >= LONG:
        on, runs = " of one worker" if where[1] else "", len(missing)
        sys.stderr.write(
            f"{chosen.name}: {runs} runs, about {minutes:.0f} minutes{on} at most; Ctrl-C keeps what is finished.\n"
        )


def _write(chosen: Setting, rows: Rows, pages: list[Path]) -> None:
    from sharpmin.study import page, to_csv, to_latex

    for file, text in zip(pages, (page(chosen, rows), to_csv(rows), to_latex(rows)), strict=True):
        replace(file, text)


def _record(chosen: Setting, rows: Rows, seeds: int) -> dict[str, object]:
    from sharpmin.study import findings, places, table

    lines = table(rows)
    where = places(rows, lines)
    named = [line.record() | {"place": where[line.method, line.noise].word} for line in lines]
    return {
        "study": chosen.name, "seeds": seeds, "steps": chosen.steps(1.0), "lines": named,
        "findings": [vars(found) for found in findings(rows)],
    }  # fmt: skip


def _show(chosen: Setting, rows: Rows, page_file: Path) -> None:
    from sharpmin.study import findings, places, table

    from ._console import Whole

    console, lines, found = Whole(), table(rows), findings(rows)
    where = places(rows, lines)
    for noise in sorted({line.noise for line in lines}):
        console.print(grid(chosen, [line for line in lines if line.noise == noise], where))
        for one in found:
            if one.noise == noise:
                console.print(one.sentence, markup=False, highlight=False)
        console.print()
    console.print(LEGEND, markup=False, highlight=False)
    console.print(f"See {page_file}", soft_wrap=True, markup=False, highlight=False)


def grid(chosen: Setting, lines: list[Line], where: dict[tuple[str, float], Place]) -> Table:
    """One row per method, in 80 columns."""
    from rich.table import Table

    from sharpmin.study._methods import title

    noise = lines[0].noise
    name = f"{chosen.name}, {noise:.0%} label noise" if noise else f"{chosen.name}, clean labels"
    out = Table(box=None, pad_edge=False, header_style="bold", title=name, title_justify="left", padding=(0, 1, 0, 0))
    out.add_column("method", no_wrap=True)
    for head in ("passes", "time", "lr", "rho", "accuracy, %", "gain"):
        out.add_column(head, justify="right", no_wrap=True)
    out.add_column("", no_wrap=True)
    for line in lines:
        rho = f"{line.rho:g}{'*' * ('rho' in line.edge)}" if line.rho else ""
        lr = f"{line.lr:.2g}{'*' * ('lr' in line.edge)}"
        out.add_row(
            title(line.method, chosen), f"{line.passes:.2f}", f"{line.seconds:.2f}", lr, rho, line.accuracy.text(100),
            line.gain.text(100), PLACES[where[line.method, line.noise].word],
        )  # fmt: skip
    return out


def _files(out: Path, data: str) -> tuple[Path, ...]:
    """The paths of all files, after a check that they can be written, before anything is computed."""
    files = tuple(out / f"study-{data}{suffix}" for suffix in SUFFIXES)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for file in files:
            if file.is_dir():
                raise IsADirectoryError(0, f"{file.name} is a folder there")
        with files[0].open("a", encoding="utf-8"):
            pass
    except OSError as error:
        told = f"cannot write to --out {out}: {error.strerror or error}"
        raise OSError(f"{told}; choose a folder that can be written; for example: --out out") from None
    return files
