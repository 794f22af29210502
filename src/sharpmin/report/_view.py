"""Data for the templates: verdicts with their page, source and instances; the settings as a grid; numbers as text."""

from __future__ import annotations

import ast
import functools
import html
import inspect
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Protocol

from sharpmin._version import __version__
from sharpmin.theory import Verdict, problems, theorems

from ._markup import markup

ORACLES = {"deterministic": "deterministic", "m-sam": "m-SAM", "n-sam": "n-SAM"}
SETTINGS = {"strongly-convex": "strongly convex", "convex": "convex", "pl": "PL", "nonconvex": "nonconvex"}
RADII = {
    "constant": "constant ρ",
    "decaying": "decaying ρ",
    "unnormalized": "unnormalized",
    "capped": "capped ρ",
    "clipped": "clipped",
}
RELATIONS = {"<=": "≤", ">=": "≥", "==": "=", "<": "<"}


class SettingView(Protocol):
    """A cell of the settings table: an oracle, a setting and a radius, with the statements and measurements."""

    @property
    def oracle(self) -> str:
        """One of `ORACLES`."""

    @property
    def setting(self) -> str:
        """One of `SETTINGS`."""

    @property
    def radius(self) -> str:
        """One of `RADII`."""

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the statements that apply."""

    @property
    def bound(self) -> str:
        """The bound as short text; empty if none is known."""

    @property
    def measured(self) -> float | None:
        """The measured value; None without one."""

    @property
    def ratio(self) -> float | None:
        """Measured over bound."""

    @property
    def all_the_way(self) -> bool | None:
        """Whether SAM converges to the optimum or to stationarity; None if that is open."""

    @property
    def proved(self) -> bool:
        """Whether `all_the_way` is proved; if not, it is known by simulation only."""

    @property
    def note(self) -> str:
        """A remark, or the reason why no statement applies."""


@dataclass(frozen=True)
class Page:
    """A statement's page: its text as HTML, its file, and the problems on which it is checked."""

    text: str
    source: str
    instances: tuple[str, ...]


@dataclass(frozen=True)
class Instance:
    """A problem that statements use: its text as HTML, its file, and their ids."""

    name: str
    text: str
    source: str
    ids: tuple[str, ...]


def pages(verdicts: Sequence[Verdict]) -> dict[str, Page]:
    """The pages by id; a verdict whose id is not registered has none."""
    known = theorems()
    out = {}
    for v in verdicts:
        if v.id in known:
            module = _home(known[v.id].statement) or _module(known[v.id].check)
            used = tuple(sorted({v.id} & set(problems()) | set(_mentions(module)), key=_by_digits))
            out[v.id] = Page(markup(known[v.id].statement), _path(module), used)
    return out


def instances(shown: Mapping[str, Page]) -> list[Instance]:
    """The problems that the pages name, each with the statements that use it."""
    known, out = problems(), []
    for name in sorted({name for page in shown.values() for name in page.instances}, key=_by_digits):
        text = markup(_before_sections(inspect.getdoc(known[name]) or ""))
        ids = tuple(id_ for id_, page in shown.items() if name in page.instances)
        out.append(Instance(name, text, _path(_module(known[name])), ids))
    return out


def _by_digits(name: str) -> tuple[bool, str]:
    """Sort key that puts real data last."""
    return name == "digits", name


def _before_sections(doc: str) -> str:
    for heading in ("\nRaises:", "\nArgs:", "\n>>>"):
        doc = doc.split(heading, maxsplit=1)[0]
    return doc


def _home(statement: str) -> str:
    """The module whose docstring is `statement`."""
    theory = [name for name in sys.modules if name.startswith("sharpmin.theory._theorems.")]
    return next((name for name in theory if sys.modules[name].__doc__ == statement), "")


def _module(function: Any) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(inspect.unwrap(function), "__module__", ""))


def _path(module: str) -> str:
    return f"src/{module.replace('.', '/')}.py"


@functools.cache
def _mentions(module: str) -> tuple[str, ...]:
    """The problems that a module uses: named as strings, or by importing their factories."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (KeyError, OSError, TypeError):
        return ()
    words = {str(node.value) for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    words |= {node.name for node in ast.walk(tree) if isinstance(node, ast.alias)}
    return tuple(name for name in problems() if name in words)


def grid(settings: Sequence[SettingView]) -> list[tuple[str, str, list[tuple[str, list[SettingView]]]]]:
    """Rows of (oracle, setting, cells), where a cell is (radius, view); empty rows and radii are left out."""
    radii = [r for r in RADII if any(s.radius == r for s in settings)]
    rows = []
    for oracle, oracle_name in ORACLES.items():
        for setting, setting_name in SETTINGS.items():
            here = [s for s in settings if (s.oracle, s.setting) == (oracle, setting)]
            if here:
                rows.append((oracle_name, setting_name, [(RADII[r], [s for s in here if s.radius == r]) for r in radii]))
    return rows


def number(value: float | None, digits: int = 4) -> str:
    """A number as HTML, with powers of ten as superscripts.

    >>> number(1.2479e-8), number(0.25), number(None)
    ('1.248&thinsp;×&thinsp;10<sup>−8</sup>', '0.25', '–')
    """
    if value is None:
        return "–"
    if not math.isfinite(value):
        return html.escape(str(value)).replace("inf", "∞")
    text = f"{value:.{digits}g}"
    if "e" not in text:
        return text.replace("-", "−")
    mantissa, exponent = text.split("e")
    return f"{mantissa}&thinsp;×&thinsp;10<sup>{int(exponent)}</sup>".replace("-", "−")


def versions() -> list[tuple[str, str]]:
    """The versions of sharpmin and of the installed libraries that compute."""
    found = [("sharpmin", __version__)]
    for name in ("numpy", "numba"):
        try:
            found.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    return found
