"""Where SAM converges, as one table: oracle x setting x radius, 60 cells, from the same map as `plan`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .atlas import Case, atlas, decided
from .measure import Measured
from .theorem import registered
from .verify import Verdict


@dataclass(frozen=True)
class Setting:
    """One cell.

    Attributes:
        oracle: "deterministic", "m-sam" or "n-sam".
        setting: "strongly-convex", "convex", "pl" or "nonconvex".
        radius: "constant", "decaying", "unnormalized", "capped" or "clipped".
        ids: the statements that apply, the upper bound first.
        bound: that upper bound as short text; empty if there is none.
        measured: from the closest instance of those statements, or from a simulation if none decides; None without either.
        ratio: measured / bound of that instance; None for a simulation.
        all_the_way: whether the method converges to the optimum, or to stationarity; None if it is not known.
        proved: whether `all_the_way` is proved by a statement.
        note: conditions, and why a field is empty.
    """

    oracle: str
    setting: str
    radius: str
    ids: tuple[str, ...]
    bound: str
    measured: float | None
    ratio: float | None
    all_the_way: bool | None
    proved: bool
    note: str


def settings(
    verdicts: Iterable[Verdict] = (), measured: Mapping[tuple[str, str, str], Measured] | None = None
) -> tuple[Setting, ...]:
    """All 60 cells, filled in from the verdicts and measurements given.

    Args:
        verdicts: results of `verify`; a cell shows the one of its statements that is closest to its bound.
        measured: the result of `measure_settings()`, for the cells that no statement decides; without it they are empty.

    >>> cells = settings()
    >>> len(cells), [(c.ids[0], c.all_the_way) for c in cells if (c.oracle, c.setting, c.radius) == ("m-sam", "pl", "constant")]
    (60, [('t6', False)])
    """
    by_id = {verdict.id: verdict for verdict in verdicts}
    return tuple(_cell(key, case, by_id, (measured or {}).get(key)) for key, case in atlas().items())


def _cell(key: tuple[str, str, str], case: Case, verdicts: Mapping[str, Verdict], simulated: Measured | None) -> Setting:
    oracle, setting, radius = key
    rules, evidence = case.rules, case.evidence
    speaks = bool(evidence if case.all_the_way is False else rules) and case.all_the_way is not None
    notes = [case.note]
    value: float | None = None
    ratio: float | None = None
    answer = case.all_the_way if speaks else None
    if speaks:
        verdict = _closest([verdicts[name] for name in (*rules, *evidence) if name in verdicts])
        if verdict is None:
            notes.append("no verdict of these statements was given")
        else:
            value, ratio = verdict.measured, verdict.ratio
            notes.append(f"measured by {verdict.id}: {verdict.instance}")
    elif simulated is not None:
        value, answer = simulated.value, not simulated.stays
        notes.append(f"simulated: {simulated.instance}, {simulated.value:.3g} +- {simulated.error:.1g} as lr -> 0")
    else:
        notes.append("no statement decides this cell; measure_settings() simulates it")
    if not rules:
        notes.append("no upper bound is known here")
    return Setting(
        oracle="deterministic" if oracle == "exact" else oracle,
        setting=setting,
        radius=radius,
        ids=(*rules, *evidence),
        bound=_formula(rules),
        measured=value,
        ratio=ratio,
        all_the_way=answer,
        proved=decided(case),
        note="; ".join(note for note in notes if note),
    )


def _formula(rules: tuple[str, ...]) -> str:
    rule = registered()[rules[0]].rule if rules else None
    return rule.formula if rule else ""


def _closest(verdicts: list[Verdict]) -> Verdict | None:
    """The refuted verdict, else the one whose measured value is nearest to its bound."""
    telling = [v for v in verdicts if not v.holds] or [v for v in verdicts if not v.vacuous] or verdicts
    return min(telling, key=lambda v: abs(v.ratio - 1), default=None)
