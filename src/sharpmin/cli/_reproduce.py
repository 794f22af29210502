"""`sharpmin reproduce`: check every statement by simulation; prints a table, writes `verdicts.json` and `report.html`."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import _names
from ._files import replace
from ._interrupt import Interrupted

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from sharpmin.runs import Row
    from sharpmin.theory import Verdict

FILES = ("verdicts.json", "report.html")
PART = "A part of the statements, as asked for with --only."


@dataclass(frozen=True)
class Check:
    """One statement to verify: a task for `sharpmin.runs.compute`."""

    statement: str
    quick: bool
    id = property(asdict)


def verified(check: Check) -> Row:
    """The verdict on a statement as a row."""
    from sharpmin.theory import verify

    return {"id": check.id, "verdict": asdict(verify(check.statement, quick=check.quick))}


def reproduce(
    out: Annotated[Path, typer.Option(help="The folder for verdicts.json and report.html.")] = Path("out"),
    quick: Annotated[bool, typer.Option("--quick", help="Fewer functions, seeds and steps.")] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Only this statement; may be repeated.", autocompletion=_names.statements),
    ] = None,
    tex: Annotated[Path | None, typer.Option(help="A folder for tables, figures and references as LaTeX.")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes on this machine; by default 2, with --only 1.", min=1, max=1024)
    ] = None,
) -> None:
    """Check every claim P1 to P7 against simulations.

    What is finished is in the folder after each statement. `sharpmin list theorems` names the statements.

    Exit code 0: all hold. 1: a claim is refuted. 2: bad use. 130: Ctrl-C; what is finished stays.
    """
    raise typer.Exit(confront(out, quick=quick, only=only or [], tex=tex, workers=workers))


def confront(out: Path, *, quick: bool, only: Sequence[str], tex: Path | None = None, workers: int | None = None) -> int:
    """Verify the chosen statements, and write the files after each one.

    Args:
        out: the folder for `verdicts.json` and `report.html`; made if missing.
        quick: fewer functions, seeds and steps.
        only: ids, in any case; empty means all.
        tex: a folder for the tables, figures and references as LaTeX; made if missing.
        workers: processes; by default two, or this one if `only` is given.

    Returns:
        0 if all hold, 1 if one is refuted.

    Raises:
        Interrupted: after Ctrl-C; what is finished is in `out`.
        ValueError: for an unknown id.
        OSError: if `out` cannot be written, before anything runs; or if a check fails, with the finished part in `out`.
    """
    from sharpmin.report import build, page, papers, parts
    from sharpmin.runs import Stopped, compute
    from sharpmin.theory import CLAIMS, Verdict, theorems
    from sharpmin.theory._statements.verify import find

    from ._console import Whole
    from ._progress import progress

    chosen = list(dict.fromkeys(find(name.lower()).id for name in only)) or list(theorems())
    _writable(out, "--out", FILES)
    if tex is not None:
        _writable(tex, "--tex", ())
    console, begin = Whole(), time.perf_counter()
    verdicts: list[Verdict] = []
    try:
        with progress("reproduce", "statements", len(chosen)) as counter:
            checks = [Check(name, quick) for name in chosen]
            rows = compute(verified, checks, workers=workers or (1 if only else 2), uses_torch=False)
            with closing(rows):
                for row in counter.each(rows):
                    verdicts.append(Verdict(**row["verdict"]))
                    verdicts.sort(key=lambda verdict: chosen.index(verdict.id))
                    _save(out, verdicts, page(verdicts, CLAIMS, f"Running: {len(verdicts)} of {len(chosen)} statements."))
            counter.doing("report.html")
            note = "" if len(chosen) == len(theorems()) else PART
            if tex is None:
                _save(out, verdicts, build(verdicts, quick=quick, note=note))
            else:
                figures, settings = parts(verdicts, quick=quick)
                _save(out, verdicts, page(verdicts, CLAIMS, note, figures=figures, settings=settings))
                for name, text in papers(verdicts, figures, settings).items():
                    replace(tex / name, text)
    except KeyboardInterrupt:
        with _undisturbed():
            told = f"interrupted after {len(verdicts)} of {len(chosen)} statements"
            if verdicts:
                _save(out, verdicts, page(verdicts, CLAIMS, f"{told[0].upper()}{told[1:]}."))
                console.print(table(verdicts))
                told += f"; they are in {out}"
            raise Interrupted(told) from None
    except Stopped as error:
        raise OSError(f"{error}; the {len(verdicts)} verdicts before it are in {out}") from error
    try:
        return _conclude(console, verdicts, time.perf_counter() - begin, out)
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; all is in {out}") from None


def _conclude(console: Console, verdicts: Sequence[Verdict], seconds: float, out: Path) -> int:
    """Print the table and the summary; returns the exit code."""
    console.print(table(verdicts))
    vacuous = sum(v.holds and v.vacuous for v in verdicts)
    refuted = [v.id for v in verdicts if not v.holds]
    holding = f"{len(verdicts) - vacuous} hold" + (f", {vacuous} vacuous" if vacuous else "")
    summary = f"refuted: {', '.join(refuted)}" if refuted else holding
    counts = f"{len(verdicts)} statement{'s' * (len(verdicts) != 1)}, {sum(v.n_cells for v in verdicts)} comparisons"
    text = f"{counts}, {seconds:.0f} s: {summary}. See {out}/report.html"
    console.print(text, soft_wrap=True, markup=False, highlight=False)
    return 1 if refuted else 0


def table(verdicts: Sequence[Verdict]) -> Table:
    """One row per statement, at most 79 columns wide."""
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    for name in ("claim", "statement", "kind"):
        grid.add_column(name, no_wrap=True)
    for name in ("measured", "", "bound", "ratio"):
        grid.add_column(name, justify="right" if name else "center", no_wrap=True)
    grid.add_column("verdict", no_wrap=True)
    for v in verdicts:
        word = "REFUTED" if not v.holds else "vacuous" if v.vacuous else "holds"
        verdict = Text(word, style="green" if v.holds else "bold red")
        numbers = f"{v.measured:.4g}", v.relation, f"{v.bound:.4g}", f"{v.ratio:.3g}"
        grid.add_row(",".join(v.claim), v.id, v.kind, *numbers, verdict)
    return grid


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ignore further Ctrl-C until the finished work is saved and reported."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _writable(out: Path, option: str, files: Sequence[str]) -> None:
    """Make the folder and check that the files can be written, before anything is computed."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / f".probe-{os.getpid()}"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        told = f"cannot write to {option} {out}: {error.strerror or error}"
        raise OSError(f"{told}; choose a folder that can be written; for example: {option} out") from None
    for name in files:
        if (out / name).is_dir():
            told = f"cannot write to {option} {out}: {name} is a folder there"
            raise OSError(f"{told}; remove it or choose another folder; for example: {option} out2")


def _save(out: Path, verdicts: Sequence[Verdict], report: str) -> None:
    """Write both files, each atomically."""
    records = json.dumps([v.record() for v in verdicts], indent=2, allow_nan=False) + "\n"
    for name, text in zip(FILES, (records, report), strict=True):
        replace(out / name, text)
