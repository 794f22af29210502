"""A statement as an object: its assumptions, bound and step size, and the check that could refute it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from sharpmin.core.reference import SI_YUN_2023, Reference

from .assume import no_none, numbers, within_floats
from .cell import Cell
from .situation import Place, Rule

Kind = Literal["upper", "lower", "tight", "limit", "numeric", "measured"]
Formula = Callable[..., float]

CLAIMS = {
    "P1": "deterministic, strongly convex: the tight global rate is 1/T^2 up to logarithms",
    "P2": "deterministic, convex: converges",
    "P3": "deterministic, nonconvex: an additive O(rho^2) that is unavoidable",
    "P4": "stochastic, strongly convex: an inevitable additive O(rho^2)",
    "P5": "stochastic, convex: an inevitable additive O(rho^2), too",
    "P6": "stochastic, nonconvex: an inevitable additive O(rho^2), too",
    "P7": "with decaying rho or without normalization convergence is different",
}
"""The claims in the abstract of Si & Yun (NeurIPS 2023, arXiv:2306.09850), for smooth functions."""


@dataclass(frozen=True, eq=False)
class Theorem:
    """A statement: an inequality with its assumptions, and a check that could refute it.

    Attributes:
        id: its name in tables and on the command line.
        title: the statement in one line.
        claims: the claims P1 ... P7 of the abstract that it makes precise.
        kind: upper, lower, tight (attained), limit (as lr -> 0), numeric (no proof) or measured (an observation).
        statement: assumptions, inequality, where it is attained, its meaning for training, source; the module docstring.
        formula: the bound, a function of keywords.
        check: compares the statement with runs on its instances and families; takes the theorem, or a mutant, and `quick`.
        prescribed: the step size, a function of keywords; None if the statement prescribes none.
        closed: a closed form that the bound at the prescribed step size implies, no smaller than it.
        example: one admissible call of `bound`.
        golden: changes to the example, and the value of `bound` for them, computed by hand from the statement.
        attained: whether the check has an instance that attains the bound, so that 1 % less (or more) is refuted.
        rule: for an upper bound, how `plan` uses it.
        places: the situations to which it applies, for `plan` and `settings`.
        mutants: wrong versions of `formula`, by name; the check has to refute every one.
        applies: the id of the statement that this one applies to data, and whose mutants it uses.
        references: the papers.

    Raises:
        ValueError: if `kind` or a claim is unknown.
    """

    id: str
    title: str
    claims: tuple[str, ...]
    kind: Kind
    statement: str
    formula: Formula
    check: Callable[[Theorem, bool], Iterable[Cell]]
    prescribed: Callable[..., Any] | None = None
    closed: Formula | None = None
    example: Mapping[str, Any] = field(default_factory=dict)
    golden: tuple[tuple[Mapping[str, Any], float], ...] = ()
    attained: bool = False
    rule: Rule | None = None
    places: tuple[Place, ...] = ()
    mutants: Mapping[str, Formula] = field(default_factory=dict)
    applies: str = ""
    references: tuple[Reference, ...] = (SI_YUN_2023,)

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"{self.id}: kind={self.kind!r} must be one of {', '.join(get_args(Kind))}")
        unknown = [claim for claim in self.claims if claim not in CLAIMS]
        if unknown or not self.claims:
            raise ValueError(f"{self.id}: claims={self.claims!r} must name claims among {', '.join(CLAIMS)}")

    def bound(self, **keywords: Any) -> float:
        """The right-hand side, at the given or the prescribed step size.

        Raises:
            TypeError: for a missing or unknown keyword; the message lists what the statement takes.
            ValueError: for a value outside the assumptions, or a result that no float can hold.
        """
        return float(_call(self.formula, self.id, "bound", keywords))

    def step_size(self, **keywords: Any) -> Any:
        """The prescribed step size: a float, or a schedule called with the step.

        Raises:
            TypeError: for a missing or unknown keyword.
            ValueError: for a value outside the assumptions, or if the statement prescribes none.
        """
        if self.prescribed is None:
            raise ValueError(f"{self.id} prescribes no step size; see theorems()[{self.id!r}].statement for the range of lr")
        return _call(self.prescribed, self.id, "step_size", keywords)

    def closed_form(self, **keywords: Any) -> float:
        """The closed form at the prescribed step size; raises like `bound`, and `ValueError` if there is none."""
        if self.closed is None:
            raise ValueError(f"{self.id} has no closed form; call bound()")
        return float(_call(self.closed, self.id, "closed_form", keywords))

    def __repr__(self) -> str:
        return f"<Theorem {self.id}: {self.title} ({self.kind}; {', '.join(self.claims)})>"


def _call(function: Callable[..., Any], owner: str, name: str, keywords: Mapping[str, Any]) -> Any:
    signature = inspect.signature(function)
    try:
        bound = signature.bind(**keywords)
    except TypeError as error:
        raise TypeError(f"{owner}.{name}: {error}; it takes {str(signature).split(' ->', maxsplit=1)[0]}") from None
    bound.apply_defaults()
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in signature.parameters.values())
    given: Mapping[str, Any] = keywords if takes_any else bound.arguments  # a mutant takes any
    schedules = given if takes_any else {k for k, p in signature.parameters.items() if "Schedule" in str(p.annotation)}
    no_none(owner, signature, given)
    checked = numbers(owner, given, schedules)
    return within_floats(f"{owner}.{name}", checked, lambda: function(**checked))


def scaled(formula: Formula, factor: float) -> Formula:
    """A mutant: the bound times `factor`."""
    return lambda **keywords: factor * formula(**keywords)


def without(formula: Formula, **changes: Any) -> Formula:
    """A mutant: the bound with some keywords replaced, such as `rho=0.0` to drop the rho term."""
    return lambda **keywords: formula(**{**keywords, **changes})


_THEOREMS: dict[str, Theorem] = {}


def register(theorem: Theorem) -> Theorem:
    """Add a statement to `theorems()`; a second one with the same id is refused."""
    if theorem.id in _THEOREMS:
        raise ValueError(f"a theorem with id {theorem.id!r} exists already; choose another id")
    _THEOREMS[theorem.id] = theorem
    return theorem


def registered() -> dict[str, Theorem]:
    """All statements by id, ordered by their first claim."""
    return dict(sorted(_THEOREMS.items(), key=lambda item: item[1].claims[0]))
