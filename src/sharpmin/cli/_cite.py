"""`sharpmin cite`: BibTeX of the papers behind statements and variants, and of the others in `docs/canon.md`."""

from __future__ import annotations

import json
from itertools import chain
from typing import Annotated

import typer

from sharpmin.core.reference import Reference

from . import _names


def cite(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Statements or variants, as `sharpmin list` prints them, or keys of papers.", autocompletion=_names.cited
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON: key, authors, title, year, venue, arxiv.")] = False,
) -> None:
    """Print the BibTeX of statements, variants and papers.

    Without arguments, of all of them. docs/canon.md has the key of every paper.
    """
    papers = references(names or [])
    if as_json:
        typer.echo(json.dumps([vars(paper) for paper in papers], indent=2))
    else:
        typer.echo("\n\n".join(paper.bibtex() for paper in papers))


def references(names: list[str]) -> list[Reference]:
    """The papers behind these names, each once, in the order of the names.

    Raises:
        ValueError: for a name that is neither a statement nor a variant nor the key of a paper.
    """
    from sharpmin.core.canon import CANON
    from sharpmin.optim.variants import variants
    from sharpmin.theory import theorems

    known = {name: t.references for name, t in theorems().items()} | {name: v.references for name, v in variants().items()}
    known |= {paper.key: (paper,) for paper in [*chain.from_iterable(known.values()), *CANON]}
    for name in names:
        if name not in known:
            near = _names.nearest(name, known, otherwise="sharpmin list shows statements and variants, docs/canon.md papers")
            raise ValueError(f"cite: no statement, variant or paper {name!r}; {near}")
    return list(dict.fromkeys(paper for name in names or known for paper in known[name]))
