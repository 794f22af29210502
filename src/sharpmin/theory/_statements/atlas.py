"""Which statements apply to which situation: the map behind `plan` and `settings`, built from the registered statements.

A situation is an oracle, a setting and a radius; there are 3 x 4 x 5 = 60.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

from .situation import ORACLES, RADII, SETTINGS, Place
from .theorem import Theorem, registered


@dataclass(frozen=True)
class Case:
    """The statements that apply to one situation.

    Attributes:
        rules: ids of upper bounds, the preferred one first.
        switches: ids of upper bounds for a switch to rho = 0.
        residuals: ids of upper bounds that take the noise as an expected residual.
        evidence: ids of lower bounds, limits and exact values.
        all_the_way: whether the method converges to the optimum (or to stationarity); None where no statement decides.
        note: conditions and remarks.
    """

    rules: tuple[str, ...]
    switches: tuple[str, ...]
    residuals: tuple[str, ...]
    evidence: tuple[str, ...]
    all_the_way: bool | None
    note: str


_NOTHING = {
    ("n-sam", "clipped"): "two independent samples differ by their noise, not by rho, so no statement bounds the clipped "
    "difference; measured"
}
"""Why no statement applies, by oracle and radius."""


def atlas() -> dict[tuple[str, str, str], Case]:
    """All 60 situations, each with the registered statements that apply."""
    return _atlas(tuple(registered().values()))


@cache
def _atlas(theorems: tuple[Theorem, ...]) -> dict[tuple[str, str, str], Case]:
    speak: dict[tuple[str, str, str], list[tuple[Theorem, Place]]] = {key: [] for key in product(ORACLES, SETTINGS, RADII)}
    for theorem in theorems:
        for place in () if theorem.applies else theorem.places:
            for situation in place.situations():
                speak[situation].append((theorem, place))
    return {key: _case(key, sorted(found, key=lambda pair: pair[1].rank)) for key, found in speak.items()}


def _case(key: tuple[str, str, str], found: Sequence[tuple[Theorem, Place]]) -> Case:
    spoken: dict[str, list[tuple[Theorem, Place]]] = {"rules": [], "switches": [], "residuals": [], "evidence": []}
    for theorem, place in found:
        spoken[_kind(theorem)].append((theorem, place))
    ids = {kind: tuple(theorem.id for theorem, _ in pairs) for kind, pairs in spoken.items()}
    rules, evidence = ([place for _, place in spoken[kind]] for kind in ("rules", "evidence"))
    places = (*rules, *evidence)
    note = "; ".join(place.note for place in places if place.note) if places else _NOTHING.get((key[0], key[2]), "")
    return Case(**ids, all_the_way=_all_the_way(rules, evidence), note=note)


def _kind(theorem: Theorem) -> str:
    rule = theorem.rule
    if rule is None:
        return "evidence"
    return "switches" if rule.switch else "residuals" if rule.residual else "rules"


def _all_the_way(rules: Iterable[Place], evidence: Iterable[Place]) -> bool | None:
    if any(place.all_the_way is False for place in evidence):
        return False
    return True if any(place.all_the_way for place in rules) else None


def decided(case: Case) -> bool:
    """Whether statements prove that the method goes all the way, or that it cannot.

    Numeric statements and measurements do not count as proofs.
    """
    if case.all_the_way is None:
        return False
    there = registered()
    names = case.rules if case.all_the_way else case.evidence
    return any(there[name].kind not in ("numeric", "measured") for name in names)
