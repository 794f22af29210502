"""Run families on a subject: each one in a fresh state, every exception an observation."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from . import _families  # noqa: F401  # registers them
from ._case import Family, Fault, NotApplicable, NotOffered, Outcome, Report, raised, registered
from ._isolate import isolated
from ._subject import Subject
from ._trial import Trial


def families() -> dict[str, Family]:
    """All families by id, in the order of the table.

    >>> families()["golden-step"].right
    "w' = (2.67, 0.44)"
    """
    return registered()


def choose(names: Iterable[str]) -> list[Family]:
    """The families of these ids; all of them for none.

    Raises:
        ValueError: for an unknown id.
    """
    known = families()
    wanted = list(dict.fromkeys(name.lower() for name in names))
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ValueError(f"no family {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in wanted] or list(known.values())


def run(subject: Subject, only: Iterable[str] = (), watch: Callable[[Family], None] | None = None) -> Report:
    """Every chosen family on the subject.

    Args:
        subject: what is under test.
        only: ids of families; empty means all.
        watch: called with every family before it runs.

    Raises:
        ValueError: for an unknown id.
    """
    outcomes = []
    for chosen in choose(only):
        if watch is not None:
            watch(chosen)
        outcomes.append(examine(chosen, subject))
    return Report(tuple(outcomes))


def examine(chosen: Family, subject: Subject) -> Outcome:
    """One family through every door of the subject: the first failure, or the best there is."""
    outcomes = [_through(chosen, subject, door) for door in subject.doors]
    for status in ("failed", "passed", "not offered"):
        for outcome in outcomes:
            if outcome.status == status:
                return outcome
    return outcomes[0]


def _through(chosen: Family, subject: Subject, door: str) -> Outcome:
    prefix = f"{door}: " if len(subject.doors) > 1 else ""
    with isolated() as seen:
        trial = Trial(subject, door, lambda: [str(entry.message) for entry in seen])
        try:
            return chosen.outcome("passed", chosen.run(trial))
        except Fault as fault:
            return chosen.outcome("failed", prefix + fault.observed, fault.right)
        except NotOffered as reason:
            return chosen.outcome("not offered", str(reason))
        except NotApplicable as reason:
            return chosen.outcome("not applicable", str(reason))
        except Exception as error:
            return chosen.outcome("failed", prefix + raised(error))
