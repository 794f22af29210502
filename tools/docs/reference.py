"""The pages of the API: one a public module, an entry a name; mkdocstrings puts the docstring there."""

from __future__ import annotations

import importlib
import inspect

from .public import MODULES, Symbol, symbols


def reference() -> dict[str, str]:
    """Path of a page to its Markdown."""
    every = symbols()
    return {f"{page_of(module)}": _page(module, [s for s in every if s.module == module]) for module in MODULES}


def page_of(module: str) -> str:
    """The path of a module's page."""
    return f"api/{module.removeprefix('sharpmin.')}.md"


def _page(module: str, here: list[Symbol]) -> str:
    about = inspect.getdoc(importlib.import_module(module)) or ""
    own = [symbol for symbol in here if symbol.home == module]
    elsewhere = [symbol for symbol in here if symbol.home != module]
    parts = [f"# {module}", about]
    if elsewhere:
        parts.append("Also here, documented elsewhere: " + ",\n".join(_link(symbol) for symbol in elsewhere) + ".")
    for symbol in own:
        parts += [f"<span id='{symbol.path}'></span>"] if symbol.source != symbol.path else []
        parts.append(f"::: {symbol.source}")
    return "\n\n".join(parts) + "\n"


def _link(symbol: Symbol) -> str:
    page = page_of(symbol.home).removeprefix("api/")
    return f"<span id='{symbol.path}'></span>[`{symbol.name}`]({page}#{symbol.home}.{symbol.name})"
