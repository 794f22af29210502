"""The names that arguments accept: for completion, help and corrections of misspelled names. Nothing here loads torch."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from itertools import chain

DATA = ("digits", "mnist1d", "mnist-5k", "pydoc", "breast-cancer")
"""The names in `sharpmin.study.SETTINGS`."""


def statements() -> list[str]:
    """The ids of all statements."""
    from sharpmin.theory import theorems

    return list(theorems())


def problems() -> list[str]:
    """The names of all problems of the laboratory."""
    from sharpmin.theory import problems as registered

    return list(registered())


def methods() -> list[str]:
    """The names of all methods of `simulate`."""
    from sharpmin.theory._simulation.run import METHODS

    return list(METHODS)


def settings() -> list[str]:
    """The assumptions on f that `plan` accepts."""
    from sharpmin.theory._statements.situation import SETTINGS

    return list(SETTINGS)


def oracles() -> list[str]:
    """The oracles that `plan` accepts: which gradients a step uses."""
    from sharpmin.theory._statements.situation import ORACLES

    return list(ORACLES)


def radii() -> list[str]:
    """The radius rules that `plan` accepts."""
    from sharpmin.theory._statements.situation import RADII

    return list(RADII)


def quantities() -> list[str]:
    """The quantities that statements bound."""
    from sharpmin.theory._statements.situation import QUANTITIES

    return list(QUANTITIES)


def data() -> list[str]:
    """All data sets of `study`, and the name that stands for all of them."""
    return [*DATA, "all"]


def tasks() -> list[str]:
    """All data sets of `study`."""
    return list(DATA)


def cited() -> list[str]:
    """Statements, variants by the names of their files, and keys of papers; those of variants are in `core.reference`."""
    import pkgutil

    import sharpmin
    from sharpmin.core import reference
    from sharpmin.core.canon import CANON
    from sharpmin.theory import theorems

    files = pkgutil.iter_modules(f"{path}/optim/variants" for path in sharpmin.__path__)
    shared = [paper for paper in vars(reference).values() if isinstance(paper, reference.Reference)]
    papers = chain(*(theorem.references for theorem in theorems().values()), shared, CANON)
    names = [*theorems(), *(file.name[1:] for file in files if file.name != "_registry"), *(paper.key for paper in papers)]
    return list(dict.fromkeys(names))


def families() -> list[str]:
    """The families of `check`, read from the text of their files."""
    import re
    from pathlib import Path

    import sharpmin

    files = sorted(file for path in sharpmin.__path__ for file in Path(path, "_check").glob("*_families/*.py"))
    return [name for file in files for name in re.findall(r'^@family\(\s*"([^"]+)"', file.read_text("utf-8"), re.MULTILINE)]


def nearest(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """The known names nearest to `name`; all known names if none is near.

    >>> nearest("digit", DATA), nearest("cifar", DATA)
    ('nearest: digits', 'there are digits, mnist1d, mnist-5k, pydoc, breast-cancer')
    """
    all_of_them = list(known)
    near = difflib.get_close_matches(name.lower(), all_of_them, cutoff=0.5)
    return f"nearest: {', '.join(near)}" if near else otherwise or f"there are {', '.join(all_of_them)}"


def require(what: str, name: str, known: Iterable[str]) -> None:
    """Raise an error for an unknown name.

    Raises:
        ValueError: if the name is unknown; the message has the nearest known names.
    """
    all_of_them = list(known)
    if name not in all_of_them:
        raise ValueError(f"no {what} {name!r}; {nearest(name, all_of_them)}")
