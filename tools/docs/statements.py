"""The page of all statements, with their formulas set, and the tables of problems and variants."""

from __future__ import annotations

import html
import inspect
from collections.abc import Callable
from typing import Any

from sharpmin.optim.variants import variants
from sharpmin.theory import CLAIMS, Theorem, problems, theorems

from .prose import paragraphs, sentence

_INTRO = """# Statements

Every statement as it stands in the code, grouped by the claim of Si & Yun (NeurIPS 2023,
[arXiv:2306.09850](https://arxiv.org/abs/2306.09850)) that it executes first. `sharpmin reproduce --only ID` confronts
one with the laboratory, `theory.theorems()["ID"].bound(...)` computes its bound. What `reproduce` printed for all of
them: [claims](claims.md)."""


def statements() -> str:
    """Markdown of the page; the texts are HTML with MathML."""
    parts = [_INTRO]
    claim = ""
    for theorem in theorems().values():
        if theorem.claims[0] != claim:
            claim = theorem.claims[0]
            parts.append(f"## {claim}: {CLAIMS[claim]} {{ #{claim.lower()} }}")
        parts.append(_entry(theorem))
    return "\n\n".join(parts) + "\n"


def _entry(theorem: Theorem) -> str:
    title = theorem.title.replace("*", "\\*").replace("_", "\\_")
    signature = html.escape(", ".join(inspect.signature(theorem.formula).parameters))
    facts = f"{theorem.kind}, claims {', '.join(theorem.claims)}; bound({signature})"
    return (
        f"### {theorem.id}: {title} {{ #{theorem.id} }}\n\n"
        f'<div class="statement">\n<p class="facts">{facts}</p>\n{paragraphs(theorem.statement)}\n</div>'
    )


def tables() -> str:
    """Markdown of the page with the problems and the variants."""
    return "\n\n".join(
        [
            "# Problems and variants",
            "## Problems",
            "Functions whose constants are known: `theory.problems()[name](...)`, for `simulate`.",
            _table(("name", "arguments", "what"), [(n, _arguments(f), _first(f)) for n, f in problems().items()]),
            "## Variants",
            "Compositions of SAM: `sharpmin.create(name, base, ...)`, or the function of that name. "
            "All that is published: [canon](canon.md).",
            _table(
                ("name", "what", "when", "papers"),
                [(n, _first(v.build), v.when, ", ".join(p.key for p in v.references)) for n, v in variants().items()],
            ),
        ]
    )


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    head = "".join(f"<th>{name}</th>" for name in heads)
    body = "\n".join("<tr>" + _cells(row) + "</tr>" for row in rows)
    return f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'


def _cells(row: tuple[str, ...]) -> str:
    return f'<td id="{row[0]}"><code>{row[0]}</code></td>' + "".join(f"<td>{sentence(cell)}</td>" for cell in row[1:])


def _first(function: Callable[..., Any]) -> str:
    return (inspect.getdoc(function) or "").split("\n", maxsplit=1)[0]


def _arguments(function: Callable[..., Any]) -> str:
    parameters = inspect.signature(function).parameters.values()
    return ", ".join(f"`{p.name}`" if p.default is p.empty else f"`{p.name}={p.default}`" for p in parameters)
