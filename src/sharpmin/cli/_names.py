"""The names that arguments take: for completion, for the help, and for who misspells one. None of this loads torch."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from itertools import chain

DATA = ("digits", "mnist1d", "mnist-5k", "pydoc", "breast-cancer")
"""Those of `sharpmin.study.SETTINGS`."""


def statements() -> list[str]:
    """All statements."""
    from sharpmin.theory import theorems

    return list(theorems())


def problems() -> list[str]:
    """All problems of the laboratory."""
    from sharpmin.theory import problems as registered

    return list(registered())


def methods() -> list[str]:
    """All methods of `simulate`."""
    from sharpmin.theory._simulation.run import METHODS

    return list(METHODS)


def settings() -> list[str]:
    """What may be known of f."""
    from sharpmin.theory._statements.situation import SETTINGS

    return list(SETTINGS)


def oracles() -> list[str]:
    """Which gradients a step may see."""
    from sharpmin.theory._statements.situation import ORACLES

    return list(ORACLES)


def radii() -> list[str]:
    """How `plan` may apply rho."""
    from sharpmin.theory._statements.situation import RADII

    return list(RADII)


def quantities() -> list[str]:
    """What a statement may bound."""
    from sharpmin.theory._statements.situation import QUANTITIES

    return list(QUANTITIES)


def data() -> list[str]:
    """All data sets of `study`, and the word for all of them."""
    return [*DATA, "all"]


def tasks() -> list[str]:
    """All data sets."""
    return list(DATA)


def cited() -> list[str]:
    """Statements, variants, and papers but for those of variants: a variant is told by its file, which needs torch."""
    import pkgutil

    import sharpmin
    from sharpmin.core.canon import CANON
    from sharpmin.theory import theorems

    files = pkgutil.iter_modules(f"{path}/optim/variants" for path in sharpmin.__path__)
    papers = [paper.key for paper in chain(*(theorem.references for theorem in theorems().values()), CANON)]
    return list(dict.fromkeys([*theorems(), *(file.name[1:] for file in files if file.name != "_registry"), *papers]))


def nearest(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """What may have been meant, else what there is.

    >>> nearest("digit", DATA), nearest("cifar", DATA)
    ('nearest: digits', 'there are digits, mnist1d, mnist-5k, pydoc, breast-cancer')
    """
    all_of_them = list(known)
    near = difflib.get_close_matches(name.lower(), all_of_them, cutoff=0.5)
    return f"nearest: {', '.join(near)}" if near else otherwise or f"there are {', '.join(all_of_them)}"


def demand(what: str, name: str, known: Iterable[str]) -> None:
    """Refuse a name that there is not.

    Raises:
        ValueError: which says what may have been meant.
    """
    all_of_them = list(known)
    if name not in all_of_them:
        raise ValueError(f"no {what} {name!r}; {nearest(name, all_of_them)}")
