"""What a family of the conformance suite is, and what running one gives.

A family is a function of a `Trial` which knows the right value from theory, not from our code. It returns what it saw, raises
`Fault` where that is wrong, or `NotOffered` where the optimizer under test has no way to express the scenario. Any other
exception is an observation too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar

Status = Literal["passed", "failed", "not offered", "not applicable"]
Scenario = TypeVar("Scenario", bound=Callable[[Any], str])  # of a `Trial`, or of a `RankTrial`


@dataclass(frozen=True)
class Outcome:
    """What one family came to.

    Attributes:
        family: its short name, such as "golden-step".
        title: the property in a few words.
        status: "passed"; "failed"; "not offered", where the optimizer has no way to express the scenario; or "not
            applicable", where the set-up has nothing to check.
        observed: what was seen, or why the scenario could not be run.
        right: what is right, known independently of the code under test.
        fix: what to do about it.
        faults: numbers of the known faults that the family stands for.
    """

    family: str
    title: str
    status: Status
    observed: str
    right: str
    fix: str
    faults: tuple[int, ...] = ()

    def record(self) -> dict[str, Any]:
        """A plain dict, ready for JSON."""
        return {**asdict(self), "faults": list(self.faults)}


@dataclass(frozen=True)
class Report:
    """The outcomes of one run, in order; iterate over it, or print it.

    Attributes:
        outcomes: one a family.
    """

    outcomes: tuple[Outcome, ...]

    @property
    def ok(self) -> bool:
        """Whether no family failed."""
        return not self.failed

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """The families that failed."""
        return tuple(outcome for outcome in self.outcomes if outcome.status == "failed")

    @property
    def summary(self) -> str:
        """The counts in one line.

        >>> Report(()).summary
        '0 families: 0 passed, 0 failed, 0 not offered'
        """
        statuses = [outcome.status for outcome in self.outcomes]
        words: list[Status] = ["passed", "failed", "not offered"]
        if "not applicable" in statuses:
            words[2:] = ["not offered", "not applicable"] if "not offered" in statuses else ["not applicable"]
        counts = ", ".join(f"{statuses.count(word)} {word}" for word in words)
        return f"{len(statuses)} {'family' if len(statuses) == 1 else 'families'}: {counts}"

    def __iter__(self) -> Iterator[Outcome]:
        return iter(self.outcomes)

    def __len__(self) -> int:
        return len(self.outcomes)

    def __str__(self) -> str:
        from ._table import text  # noqa: PLC0415  # it needs this module

        return text(self)

    __repr__ = __str__


class Fault(Exception):
    """What was observed is wrong; `right` replaces the family's own where the case is a special one."""

    def __init__(self, observed: str, right: str | None = None):
        super().__init__(observed)
        self.observed = observed
        self.right = right


class NotOffered(Exception):
    """The optimizer under test has no way to express the scenario; the message says why."""


class NotApplicable(Exception):
    """The set-up has nothing that the family could check; the message says what is missing."""


@dataclass(frozen=True)
class Family:
    """A scenario with a right value. `run` returns what it saw, or raises `Fault` or `NotOffered`.

    With `ranks` it is played by several processes together, and `run` gets a `RankTrial`.
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
    """What has been registered so far, in order; `families()` is what the world should ask."""
    return dict(_families)


def raised(error: BaseException, limit: int = 300) -> str:
    """An exception as an observation: one line."""
    text = " ".join(str(error).split())
    text = text if len(text) <= limit else text[: limit - 3] + "..."
    return f"raised {type(error).__name__}: {text}" if text else f"raised {type(error).__name__}"


def demand(ok: bool, observed: str, right: str | None = None) -> None:
    """Raise `Fault` with what was observed unless `ok`."""
    if not ok:
        raise Fault(observed, right)
