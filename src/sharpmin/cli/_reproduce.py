"""`sharpmin reproduce`: every statement against the laboratory, a table, `verdicts.json` and `report.html`."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from sharpmin.report import page
from sharpmin.theory import CLAIMS, Verdict, theorems, verify
from sharpmin.theory._verify import find


def reproduce(out: Path, *, quick: bool, only: Sequence[str]) -> int:
    """Verify the chosen statements and write what is known after each one.

    Args:
        out: the folder for `verdicts.json` and `report.html`; made if missing.
        quick: fewer functions, seeds and steps.
        only: ids; empty means all.

    Returns:
        0 if all hold, 1 if one is refuted, 130 after Ctrl-C.

    Raises:
        ValueError: for an unknown id.
        OSError: if `out` cannot be written; nothing has run then.
    """
    chosen = [find(name).id for name in only] or list(theorems())
    _writable(out)
    console, begin = Console(), time.perf_counter()
    verdicts: list[Verdict] = []
    interrupted = False
    try:
        with _progress(console, len(chosen)) as advance:
            for name in dict.fromkeys(chosen):
                advance(name)
                verdicts.append(verify(name, quick=quick))
                _save(out, verdicts)
    except KeyboardInterrupt:
        interrupted = True
    note = f"Interrupted: {len(verdicts)} of {len(chosen)} statements were checked." if interrupted else ""
    _save(out, verdicts, note)
    console.print(table(verdicts))
    if interrupted:
        sys.stderr.write(f"sharpmin: interrupted after {len(verdicts)} of {len(chosen)} statements; they are in {out}\n")
        return 130
    refuted = [v.id for v in verdicts if not v.holds]
    summary = f"refuted: {', '.join(refuted)}" if refuted else "all hold"
    counts = f"{len(verdicts)} statements, {sum(v.n_cells for v in verdicts)} confrontations"
    console.print(f"{counts}, {time.perf_counter() - begin:.0f} s: {summary}. See {out}/report.html", soft_wrap=True)
    return 1 if refuted else 0


def table(verdicts: Sequence[Verdict]) -> Table:
    """One row a statement; 79 columns, so that it fits a plain terminal and a README."""
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
def _progress(console: Console, total: int) -> Iterator[_Advance]:
    columns = (TextColumn("{task.description:18}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        yield _Advance(progress, total)


class _Advance:
    """Says which statement is being checked."""

    def __init__(self, progress: Progress, total: int):
        self.progress, self.task = progress, progress.add_task("", total=total)
        self.started = False

    def __call__(self, name: str) -> None:
        self.progress.update(self.task, description=name, advance=1 if self.started else 0)
        self.started = True


def _writable(out: Path) -> None:
    """Make the folder and try it, before anything is computed."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / f".probe-{os.getpid()}"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise OSError(f"cannot write to --out {out}: {error.strerror or error}; choose a folder that can be written") from None


def _save(out: Path, verdicts: Sequence[Verdict], note: str = "") -> None:
    """Both files, each replaced in one step, so that a reader never sees half of one."""
    records = json.dumps([v.record() for v in verdicts], indent=2, allow_nan=False) + "\n"
    for name, text in (("verdicts.json", records), ("report.html", page(verdicts, CLAIMS, note))):
        draft = out / f".{name}.{os.getpid()}"
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, out / name)
