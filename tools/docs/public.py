"""What is public: the names in `__all__` of the public modules, each with the one page that documents it."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from types import ModuleType

MODULES = (
    "sharpmin",
    "sharpmin.rho",
    "sharpmin.optim",
    "sharpmin.diagnostics",
    "sharpmin.theory",
    "sharpmin.integrations",
    "sharpmin.runs",
    "sharpmin.report",
    "sharpmin.study",
)
"""The public modules, in the order in which they document what several of them have."""


@dataclass(frozen=True)
class Symbol:
    """A public name.

    Attributes:
        module: that has it in its `__all__`.
        name: in that module.
        value: the object itself.
        home: the first public module that has the same object by the same name.
    """

    module: str
    name: str
    value: object
    home: str

    @property
    def path(self) -> str:
        """The dotted name."""
        return f"{self.module}.{self.name}"

    @property
    def source(self) -> str:
        """The dotted name under which griffe finds it: a file of the same name would be taken for it."""
        return f"{self.path}.{self.name}" if self.path in sys.modules else self.path


def symbols() -> list[Symbol]:
    """Every public name of every public module, modules and the version left out."""
    homes: dict[tuple[str, int], str] = {}
    found: list[Symbol] = []
    for module in MODULES:
        names: list[str] = importlib.import_module(module).__all__
        for name in sorted(names, key=lambda name: (name.lower(), name)):
            value = getattr(importlib.import_module(module), name)
            if isinstance(value, ModuleType) or name.startswith("__"):
                continue
            home = homes.setdefault((name, id(value)), module)
            found.append(Symbol(module, name, value, home))
    return found
