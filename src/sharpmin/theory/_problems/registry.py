"""Problems by name."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar

from .._statements.assume import no_none, within_floats
from .hinge import HingeProblem
from .problem import Problem

F = TypeVar("F", bound=Callable[..., Problem])
_PROBLEMS: dict[str, Callable[..., Problem]] = {}


def problem(name: str) -> Callable[[F], F]:
    """Register a factory under a name that is not taken; `problems()` returns it with checks of its arguments and constants."""

    def register(factory: F) -> F:
        if name in _PROBLEMS:
            raise ValueError(f"a problem named {name!r} exists already; choose another name")
        signature = inspect.signature(factory)

        @wraps(factory)
        def guarded(*arguments: Any, **keywords: Any) -> Problem:
            no_none(name, signature, keywords)
            return usable(name, keywords, lambda: factory(*arguments, **keywords))

        _PROBLEMS[name] = guarded
        return factory

    return register


def usable(owner: str, given: Mapping[str, Any], build: Callable[[], Problem]) -> Problem:
    """The problem that `build` returns; a `ValueError` if its constants are beyond floating point."""

    def build_and_ask() -> Problem:
        f = build()
        asked = [f.resolution, f.pl, *([f.sigma] if isinstance(f, HingeProblem) else [])]
        if not math.isfinite(asked[0]) or any(map(math.isnan, asked)):
            raise OverflowError
        return f

    return within_floats(owner, given, build_and_ask)


def problems() -> dict[str, Callable[..., Problem]]:
    """All problem factories by name.

    >>> sorted(problems())  # doctest: +NORMALIZE_WHITESPACE
    ['digits', 'e1', 'e2', 'e3', 'e4', 'e5', 'kappa2', 'logcosh', 'pl-trap', 'product', 'quadratic', 'trap', 'trap-lipschitz',
     'trap-smooth', 'us', 'wedge']
    """
    return dict(sorted(_PROBLEMS.items()))
