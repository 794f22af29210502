"""A subject as given on the command line, which every process can construct for itself."""

from __future__ import annotations

import ast
import importlib
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ._case import raised
from ._subject import Subject, of_class, of_factory, our_sam


@dataclass(frozen=True)
class Named:
    """The arguments of `sharpmin check` that name the SAM.

    Attributes:
        target: pkg.module:Class, or nothing for ours.
        door: "closure", "two-step", or None for what the class has.
        given: KEY=VALUE for its constructor.
        make: pkg.module:function that constructs it.

    >>> Named("sharpmin:SAM")().name
    'sharpmin.SAM'
    """

    target: str = ""
    door: str | None = None
    given: tuple[str, ...] = ()
    make: str | None = None

    @property
    def is_ours(self) -> bool:
        """Whether it is sharpmin's own SAM."""
        return not self.target and self.make is None

    def __call__(self) -> Subject:
        """Construct the subject.

        Raises:
            ValueError: if it does not exist, with the reason in one line.
            TypeError: if it is no SAM.
        """
        extra = dict(_pair(text) for text in self.given)
        if self.make is not None:
            if extra:
                raise ValueError("--set and --make do not go together: let the function set them")
            return of_factory(_load(self.make, "--make"), self.target or self.make, door=self.door)
        if not self.target:
            if extra:
                raise ValueError("--set needs a TARGET, pkg.module:Class")
            return our_sam(door=self.door)
        return of_class(_load(self.target, "TARGET"), self.target, door=self.door, extra=extra)


def _pair(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier():
        raise ValueError(f"--set {text}: give KEY=VALUE")
    with suppress(ValueError, SyntaxError):
        return key, ast.literal_eval(value)
    return key, value


def _load(path: str, what: str) -> Any:
    """The object at pkg.module:name.

    Raises:
        ValueError: if there is none, with the reason in one line.
    """
    module, colon, name = path.partition(":")
    if not colon or not module or not name:
        raise ValueError(f"{what} {path}: give pkg.module:name, such as sharpmin:SAM")
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and (module == error.name or module.startswith(f"{error.name}.")):
            raise ValueError(f"{what} {path}: there is no module {error.name}; is it installed here?") from None
        raise ValueError(f"{what} {path}: importing {module} {raised(error)}") from None
    except (Exception, SystemExit) as error:
        raise ValueError(f"{what} {path}: importing {module} {raised(error)}") from None
    for part in name.split("."):
        if not hasattr(found, part):
            raise ValueError(f"{what} {path}: {module} has no {name}")
        found = getattr(found, part)
    return found
