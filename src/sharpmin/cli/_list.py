"""`sharpmin list`: the statements, problems and variants that there are."""

from __future__ import annotations

import inspect
import json
from typing import Annotated, Any

import typer

KINDS = ("theorems", "problems", "variants")


def list_all(
    kind: Annotated[str, typer.Argument(help="theorems, problems or variants; all three if left out.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """List the theorems (statements), problems and variants that there are; of a variant also when to use it.

    Theorems are named by `reproduce --only`, problems by `simulate`, variants by `sharpmin.create`, all of them by `cite`.
    """
    if kind and kind not in KINDS:
        raise ValueError(f"list {kind!r}: give one of {', '.join(KINDS)}, or nothing for all")
    chosen = {name: rows(name) for name in ((kind,) if kind else KINDS)}
    if as_json:
        typer.echo(json.dumps(chosen[kind] if kind else chosen, indent=2))
        return
    from rich.table import Table

    from ._console import Whole

    console = Whole()
    for name, entries in chosen.items():
        grid = Table(box=None, pad_edge=False, title=None if kind else name, title_justify="left", header_style="bold")
        for column in entries[0]:
            grid.add_column(column, no_wrap=column in ("id", "kind", "claims", "name"), overflow="fold")
        for entry in entries:
            grid.add_row(*(", ".join(v) if isinstance(v, list) else str(v) for v in entry.values()))
        console.print(grid)


def rows(kind: str) -> list[dict[str, Any]]:
    """One row an entry, ready for JSON."""
    from sharpmin import theory
    from sharpmin.optim.variants import variants

    if kind == "theorems":
        return [{"id": t.id, "kind": t.kind, "claims": list(t.claims), "title": t.title} for t in theory.theorems().values()]
    if kind == "problems":
        factories = theory.problems().items()
        return [{"name": name, "arguments": _arguments(factory), "what": _first(factory)} for name, factory in factories]
    entries = variants().items()
    return [
        {"name": n, "what": _first(v.build), "when": v.when, "papers": [paper.key for paper in v.references]}
        for n, v in entries
    ]


def _first(function: Any) -> str:
    return (inspect.getdoc(function) or "").split("\n", maxsplit=1)[0]


def _arguments(function: Any) -> str:
    parameters = inspect.signature(function).parameters.values()
    return ", ".join(p.name if p.default is p.empty else f"{p.name}={p.default}" for p in parameters)
