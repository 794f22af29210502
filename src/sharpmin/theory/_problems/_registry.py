"""Problems by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from .._problem import Problem

F = TypeVar("F", bound=Callable[..., Problem])
_PROBLEMS: dict[str, Callable[..., Problem]] = {}


def problem(name: str) -> Callable[[F], F]:
    """Register a factory; a second one of the same name is refused."""

    def register(factory: F) -> F:
        if name in _PROBLEMS:
            raise ValueError(f"a problem named {name!r} exists already; choose another name")
        _PROBLEMS[name] = factory
        return factory

    return register


def problems() -> dict[str, Callable[..., Problem]]:
    """All problem factories by name.

    >>> sorted(problems())  # doctest: +NORMALIZE_WHITESPACE
    ['digits', 'e1', 'e2', 'e3', 'e4', 'e5', 'logcosh', 'pl-trap', 'product', 'quadratic', 'trap', 'trap-lipschitz',
     'trap-smooth', 'us']
    """
    return dict(sorted(_PROBLEMS.items()))
