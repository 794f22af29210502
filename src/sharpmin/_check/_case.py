"""The families of the conformance suite, and the exceptions that they raise.

A family is a function of a `Trial` that knows the right value from theory, not from our code. It returns what it observed,
raises `Fault` if that is wrong, or `NotOffered` if the optimizer under test cannot express the scenario. Any other exception
is a failure, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from sharpmin.core.text import printable

from ._report import Outcome, Status

Scenario = TypeVar("Scenario", bound=Callable[[Any], str])  # of a `Trial`, or of a `RankTrial`


class Fault(Exception):
    """The observed value is wrong; `right` replaces the right value of the family in special cases."""

    def __init__(self, observed: str, right: str | None = None):
        super().__init__(observed)
        self.observed = observed
        self.right = right


class NotOffered(Exception):
    """The optimizer under test cannot express the scenario; the message says why."""


class NotApplicable(Exception):
    """The set-up has nothing for the family to check; the message says what is missing."""


@dataclass(frozen=True)
class Family:
    """A scenario with a right value. `run` returns the observation, or raises `Fault` or `NotOffered`.

    With `ranks` it runs on several processes together, and `run` gets a `RankTrial`.
    """

    id: str
    title: str
    right: str
    fix: str
    faults: tuple[int, ...]
    run: Callable[[Any], str]
    ranks: bool = False

    def outcome(self, status: Status, observed: str, right: str | None = None) -> Outcome:
        """An outcome of this family."""
        return Outcome(self.id, self.title, status, observed, right or self.right, self.fix, self.faults)


_families: dict[str, Family] = {}


def family(
    id: str, title: str, *, right: str, fix: str, faults: tuple[int, ...] = (), ranks: bool = False
) -> Callable[[Scenario], Scenario]:
    """Register a scenario as a family.

    Raises:
        ValueError: if the id is taken.
    """

    def register(run: Scenario) -> Scenario:
        if id in _families:
            raise ValueError(f"the family {id!r} is defined twice")
        _families[id] = Family(id, title, right, fix, faults, run, ranks)
        return run

    return register


def registered() -> dict[str, Family]:
    """The families registered so far, in order; call `families()` instead, which imports all of them."""
    return dict(_families)


def raised(error: BaseException, limit: int = 300) -> str:
    """Describe an exception in one printable line."""
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = "(it cannot be shown)"
    text = printable(text)
    text = text if len(text) <= limit else text[: limit - 3] + "..."
    return f"raised {type(error).__name__}: {text}" if text else f"raised {type(error).__name__}"


def require(ok: bool, observed: str, right: str | None = None) -> None:
    """Raise `Fault` with what was observed unless `ok`."""
    if not ok:
        raise Fault(observed, right)
