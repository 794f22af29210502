"""`sharpmin check`: the conformance suite, on sharpmin's SAM or on any other."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import _names

if TYPE_CHECKING:
    from rich.table import Table

    from sharpmin._check import Report
    from sharpmin._check._named import Named
    from sharpmin._check._remote import RemoteSubject
    from sharpmin._check._suite import Here

STYLES = {"passed": "green", "failed": "bold red"}


def check(
    target: Annotated[str, typer.Argument(help="pkg.module:Class, the SAM to check; ours if left out.")] = "",
    door: Annotated[str | None, typer.Option(help="closure or two-step; by default what the class has.")] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Only this family of cases; may be repeated.", autocompletion=_names.families),
    ] = None,
    given: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE for the constructor; may be repeated.")] = None,
    make: Annotated[str | None, typer.Option(help="pkg.module:function(params, base_class, rho, base_options).")] = None,
    ranks: Annotated[int | None, typer.Option(help="Also the families of DDP and FSDP2, on so many gloo processes.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Check a SAM implementation against known results.

    Classes with the signatures Cls(params, base_class, rho=..., **base_options) and Cls(base, rho=...) are constructed
    as they are; --set adds arguments, --make names a function that constructs them. Two results are not failures: "not
    offered", if the class has no way to express the case, and "not applicable", if the case does not concern it.

    Exit code 0: nothing failed. 1: a family failed. 2: bad use.
    """
    from sharpmin._check._case import registered
    from sharpmin._check._named import Named
    from sharpmin._check._suite import choose, play

    from ._progress import progress

    for name in only or []:
        _names.require("family", name.lower(), registered())
    chosen = choose(only or [], ranks=ranks is not None)
    _require_ranks(ranks)
    with _visible(), redirect_stdout(sys.stderr):  # output of the code under test must not get into the JSON
        named = Named(target, door, tuple(given or []), make)
        with _subject(named) as subject, progress("check", "families", len(chosen)) as counter:
            if ranks is None:
                report = play(counter.each(chosen), subject.examine, lambda family: counter.doing(family.id))
            else:
                from sharpmin._check._workers import run_on_ranks

                report = run_on_ranks(named, ranks, subject, counter.each(chosen), lambda family: counter.doing(family.id))
    if as_json:
        typer.echo(json.dumps(_document(subject, report, ranks), indent=2))
    else:
        from ._console import Whole

        console = Whole()
        console.print(_headline(subject, ranks), markup=False, highlight=False)
        console.print(table(report))
        console.print(report.summary, markup=False, highlight=False)
    raise typer.Exit(0 if report.ok else 1)


def _require_ranks(ranks: int | None) -> None:
    if ranks is not None:
        from sharpmin._check._workers import require_world

        require_world(ranks)


@contextmanager
def _subject(named: Named) -> Iterator[RemoteSubject | Here]:
    """The subject of the checks: sharpmin's SAM in this process, any other code in a process of its own."""
    from sharpmin._check._remote import RemoteSubject
    from sharpmin._check._suite import Here

    if named.is_ours:
        yield Here(named())
        return
    with RemoteSubject(named) as subject:
        yield subject


@contextmanager
def _visible() -> Iterator[None]:
    """Make modules in the current folder importable."""
    sys.path.insert(0, os.getcwd())
    try:
        yield
    finally:
        sys.path.remove(os.getcwd())


def _headline(subject: RemoteSubject | Here, ranks: int | None) -> str:
    import torch

    where = f"; {ranks} ranks" if ranks else ""
    return f"{subject.name} by {', '.join(subject.doors)}; torch {torch.__version__}{where}"


def table(report: Report) -> Table:
    """One row per family; a failed one with the value seen, the right value, and a fix."""
    from rich.table import Table
    from rich.text import Text

    from sharpmin._check._report import details

    grid = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    grid.add_column("family", no_wrap=True)
    grid.add_column("result", no_wrap=True)
    grid.add_column("what", overflow="fold")
    for outcome in report:
        what = Text("\n".join([outcome.title, *details(outcome)]))
        grid.add_row(outcome.family, Text(outcome.status, style=STYLES.get(outcome.status, "dim")), what)
    return grid


def _document(subject: RemoteSubject | Here, report: Report, ranks: int | None) -> dict[str, Any]:
    import torch

    from sharpmin import __version__

    statuses = [outcome.status for outcome in report]
    return {
        "target": subject.name,
        "doors": list(subject.doors),
        "ranks": ranks or 1,
        "sharpmin": __version__,
        "torch": str(torch.__version__),
        "passed": statuses.count("passed"),
        "failed": statuses.count("failed"),
        "not_offered": statuses.count("not offered"),
        "not_applicable": statuses.count("not applicable"),
        "families": [outcome.record() for outcome in report],
    }
