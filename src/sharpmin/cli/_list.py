"""`sharpmin list`: all statements, problems and variants."""

from __future__ import annotations

import inspect
import json
from typing import Annotated, Any

import typer

from sharpmin.core.latex import tabular

KINDS = ("theorems", "problems", "variants")


def list_all(
    kind: Annotated[
        str,
        typer.Argument(help="theorems, problems or variants; all three if left out.", autocompletion=lambda: list(KINDS)),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="As tables for LaTeX, with the package booktabs.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="As tables for Markdown.")] = False,
) -> None:
    """List the statements (theorems), problems and variants that there are.

    `reproduce --only` and `refute` take statements, `simulate` takes problems, `sharpmin.create` in Python takes variants,
    `cite` takes statements and variants.
    """
    if kind and kind not in KINDS:
        raise ValueError(f"list: no kind {kind!r}; give one of {', '.join(KINDS)}, or nothing for all")
    if as_json + latex + markdown > 1:
        raise ValueError("list: several formats are given; give one of --json, --latex, --markdown")
    chosen = {name: rows(name) for name in ((kind,) if kind else KINDS)}
    if as_json:
        typer.echo(json.dumps(chosen[kind] if kind else chosen, indent=2))
        return
    if latex or markdown:
        typer.echo("\n".join((_latex if latex else _markdown)(entries) for entries in chosen.values()), nl=False)
        return
    _print(chosen, titled=not kind)


def _print(chosen: dict[str, list[dict[str, Any]]], *, titled: bool) -> None:
    from rich.table import Table

    from ._console import Whole

    console = Whole()
    for name, entries in chosen.items():
        grid = Table(box=None, pad_edge=False, title=name if titled else None, title_justify="left", header_style="bold")
        for column in entries[0]:
            grid.add_column(column, no_wrap=column in ("id", "kind", "claims", "name"), overflow="fold")
        for entry in entries:
            grid.add_row(*_cells(entry))
        console.print(grid)


def rows(kind: str) -> list[dict[str, Any]]:
    """One JSON-ready row per entry."""
    from sharpmin import theory

    if kind == "theorems":
        return [{"id": t.id, "kind": t.kind, "claims": list(t.claims), "title": t.title} for t in theory.theorems().values()]
    if kind == "problems":
        factories = theory.problems().items()
        return [{"name": name, "arguments": _arguments(factory), "what": _first(factory)} for name, factory in factories]
    from sharpmin.optim.variants import variants

    entries = variants().items()
    return [
        {"name": n, "what": _first(v.build), "when": v.when, "papers": [paper.key for paper in v.references]}
        for n, v in entries
    ]


def _cells(entry: dict[str, Any]) -> list[str]:
    return [", ".join(v) if isinstance(v, list) else str(v) for v in entry.values()]


def _latex(entries: list[dict[str, Any]]) -> str:
    from sharpmin.report.tex import formula

    heads = list(entries[0])
    return tabular("l" * len(heads), heads, [[formula(cell) for cell in _cells(entry)] for entry in entries])


def _markdown(entries: list[dict[str, Any]]) -> str:
    rows = [list(entries[0]), ["---"] * len(entries[0]), *map(_cells, entries)]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in rows)


def _first(function: Any) -> str:
    return (inspect.getdoc(function) or "").split("\n", maxsplit=1)[0]


def _arguments(function: Any) -> str:
    parameters = inspect.signature(function).parameters.values()
    return ", ".join(p.name if p.default is p.empty else f"{p.name}={p.default}" for p in parameters)
