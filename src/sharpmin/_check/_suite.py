"""Runs families on a subject, each in a fresh state; every exception becomes an outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from . import _families, _rank_families  # noqa: F401  # registers them
from ._case import Family, Fault, NotApplicable, NotOffered, raised, registered
from ._isolate import isolated
from ._report import Outcome, Report
from ._subject import Subject
from ._trial import Trial


def families(*, ranks: bool = False) -> dict[str, Family]:
    """The families of one process by id, in the order of the table; those that need several with `ranks`.

    >>> families()["golden-step"].right
    "w' = (2.67, 0.44)"
    >>> families(ranks=True)["ddp-golden-step"].right
    "second pass at 0.6, x' = 0.38 on every rank"
    """
    return {name: entry for name, entry in registered().items() if entry.ranks is ranks}


def choose(names: Iterable[str], *, ranks: bool = False) -> list[Family]:
    """The families of these ids; all of them for none, those that need several processes only with `ranks`.

    Raises:
        ValueError: for an unknown id, or for one that needs several processes where there is one.
    """
    known = registered() if ranks else families()
    wanted = list(dict.fromkeys(name.lower() for name in names))
    alone = [name for name in wanted if name not in known and name in registered()]
    if alone:
        raise ValueError(f"{', '.join(alone)} needs several processes; give --ranks 2 too")
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
    return play(choose(only), Here(subject).examine, watch)


def play(
    chosen: Iterable[Family], examine: Callable[[Family], Outcome], watch: Callable[[Family], None] | None = None
) -> Report:
    """Run families one after the other; yields outcomes. `watch` is called with every family before it runs."""
    outcomes = []
    for one in chosen:
        if watch is not None:
            watch(one)
        outcomes.append(examine(one))
    return Report(tuple(outcomes))


class Here:
    """A subject in this process."""

    def __init__(self, subject: Subject):
        self._subject, self.name, self.doors = subject, subject.name, subject.doors

    def examine(self, chosen: Family) -> Outcome:
        """One family through every door."""
        return examine(chosen, self._subject)


def examine(chosen: Family, subject: Subject) -> Outcome:
    """Run one family through every door of the subject; returns the first failure, or the best outcome."""
    return best([_through(chosen, subject, door) for door in subject.doors])


def best(outcomes: Sequence[Outcome]) -> Outcome:
    """The outcome that stands for all doors or ranks: the first failure, or the best one."""
    for status in ("failed", "passed", "not offered"):
        for outcome in outcomes:
            if outcome.status == status:
                return outcome
    return outcomes[0]


def _through(chosen: Family, subject: Subject, door: str) -> Outcome:
    with isolated() as seen:
        return attempt(chosen, Trial(subject, door, lambda: [str(entry.message) for entry in seen]))


def attempt(chosen: Family, trial: Trial) -> Outcome:
    """Run one family on one trial; every exception becomes an outcome."""
    prefix = f"{trial.door}: " if len(trial.subject.doors) > 1 else ""
    try:
        return chosen.outcome("passed", chosen.run(trial))
    except Fault as fault:
        return chosen.outcome("failed", prefix + fault.observed, fault.right)
    except NotOffered as reason:
        return chosen.outcome("not offered", str(reason))
    except NotApplicable as reason:
        return chosen.outcome("not applicable", str(reason))
    except (Exception, SystemExit) as error:
        return chosen.outcome("failed", prefix + raised(error))
