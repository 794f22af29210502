"""Which statement speaks about which situation: the one map behind `plan` and `settings`.

A situation is an oracle, a setting and a radius; there are 3 x 4 x 5 = 60. `Rule` says how an upper bound is to be called,
`Case` names the rules and the evidence (lower bounds and limits) of one situation. A statement that is not registered is
passed over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from .theorem import Theorem, registered

OracleName = Literal["exact", "m-sam", "n-sam"]
SettingName = Literal["strongly-convex", "convex", "pl", "nonconvex"]
Radius = Literal["constant", "decaying", "unnormalised", "capped", "clipped"]
Quantity = Literal["gap", "squared-gradient", "least-squared-gradient", "perturbed-gap", "squared-distance"]

ORACLES: tuple[str, ...] = get_args(OracleName)
SETTINGS: tuple[str, ...] = get_args(SettingName)
RADII: tuple[str, ...] = get_args(Radius)
QUANTITIES: dict[str, str] = {
    "gap": "E f(x_T) - f*",
    "squared-gradient": "mean over t < T of E ||grad f(x_t)||^2",
    "least-squared-gradient": "min over t < T of ||grad f(x_t)||^2",
    "perturbed-gap": "mean over t < T of E f(y_t) - f*",
    "squared-distance": "E ||x_T - x*||^2",
}


@dataclass(frozen=True)
class Rule:
    """How the bound of one statement is used.

    Attributes:
        id: of the statement.
        quantity: what is bounded; a key of `QUANTITIES`.
        formula: the bound as short text.
        vanishing: whether the step size tends to 0 as T grows, if none is given.
        maximum: whether the bound is the largest of its terms, not their sum.
        schedule: "inverse-sqrt" or "sqrt-lr" where the radius decays: rho/sqrt(t+1), or rho (beta lr_t)^(1/2).
        per_step: whether the statement bounds the sum over t < T, so that the mean is its T-th part.
        step: the statement whose step size is taken, where this one prescribes none; empty: the lr with the smallest bound.
    """

    id: str
    quantity: Quantity
    formula: str
    vanishing: bool = False
    maximum: bool = False
    schedule: str = ""
    per_step: bool = False
    step: str = ""


RULES: dict[str, Rule] = {
    rule.id: rule
    for rule in (
        Rule("t1", "gap", "max{(1 - 2 mu lr (1 - beta lr/2))^T Delta, F}, F of order beta^4 lr^2 rho^2/mu",
             vanishing=True, maximum=True),
        Rule("t1d", "gap", "max{Delta (t0/(T + t0))^3, 2 beta^4 rho^2/(mu^3 (T - 1 + t0)^2)}", vanishing=True, maximum=True),
        Rule("t3", "squared-gradient", "2 Delta/(lr T) + beta^3 lr rho^2", vanishing=True),
        Rule("t3b", "least-squared-gradient", "max{beta^4 lr^2 rho^2/4, Delta/(lr T)}, up to 1 - beta lr",
             vanishing=True, maximum=True),
        Rule("t4", "squared-gradient", "2 Delta/(lr T) + beta^2 rho^2"),
        Rule("t4pl", "gap", "(1 - lr mu)^T Delta + beta^2 rho^2/(2 mu)"),
        Rule("t5", "squared-gradient", "2 Delta/(lr T) + beta lr V + beta^2 rho^2", vanishing=True),
        Rule("t6", "gap", "(1 - lr mu)^T Delta + beta lr V/(2 mu) + beta^2 rho^2/(2 mu)", vanishing=True),
        Rule("t7", "perturbed-gap", "R^2/(2 lr T) + lr sigma^2/2 + beta rho^2/(2 (1 - beta lr))", vanishing=True),
        Rule("t8", "squared-distance", "(1 - lr mu/2)^T R^2 + 2 lr sigma^2/mu + 2 rho^2 (1 + kappa/(1 - beta lr))",
             vanishing=True),
        Rule("u1", "squared-gradient", "2 Delta/(lr T (1 - beta^2 rho^2))"),
        Rule("u1pl", "gap", "(1 - lr mu (1 - beta^2 rho^2))^T Delta"),
        Rule("u2", "squared-gradient", "Delta/(lr (1 - beta lr/2) T)"),
        Rule("u2sc", "gap", "(1 - 2 mu lr (1 - beta lr/2))^T Delta"),
        Rule("us", "squared-gradient", "[2 Delta/(lr T) + (r^2 + beta lr) sigma^2]/(1 - r^2), r = beta rho", vanishing=True),
        Rule("us-m", "squared-gradient", "[2 Delta/(lr T) + (r^2 + 2 beta lr (1 + r)^2) sigma^2]/(1 - r^2 - 2 r^2 beta lr)",
             vanishing=True),
        Rule("d1", "squared-gradient", "2 beta Delta/T + (beta^2/T) sum rho_t^2", schedule="inverse-sqrt", per_step=True),
        Rule("d2", "squared-gradient", "2 Delta/(lr T) + beta lr V + (beta^2/T) sum rho_t^2", vanishing=True,
             schedule="inverse-sqrt", step="t5"),
        Rule("d3", "gap", "(t0^2 Delta + 2 A T/mu^2)/T^2, A = beta^3 rho^2 + beta (sigma + beta rho)^2", vanishing=True,
             schedule="sqrt-lr"),
        Rule("r1", "squared-gradient", "2 Delta/(lr T (1 - beta^2 c^2))"),
        Rule("r2", "squared-gradient", "2 Delta/(lr T (1 - theta^2))"),
        Rule("r2pl", "gap", "(1 - lr mu (1 - theta^2))^T Delta"),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """What is known about one situation.

    Attributes:
        rules: ids of upper bounds, the preferred one first.
        evidence: ids of lower bounds, limits and exact values.
        all_the_way: whether the method converges to the optimum (or to stationarity); None where no statement decides.
        note: what a reader should know.
    """

    rules: tuple[str, ...]
    evidence: tuple[str, ...]
    all_the_way: bool | None
    note: str


_ANY = " ".join(SETTINGS)
_UP_TO = "the upper bound needs only radii of at most rho; that something stays is measured, not proved"
_CLIP = "clipping only shortens the difference of the gradients, so the bound of constant rho holds; the rest is measured"
_OPEN = "two independent samples differ by their noise, not by rho, so no statement bounds the clipped difference; measured"

# oracle, settings, radius, rules, evidence, all the way, note
_ROWS: tuple[tuple[str, str, str, str, str, bool | None, str], ...] = (
    (
        "exact",
        "strongly-convex",
        "constant",
        "t1 t1d",
        "t2 t2k c1 kappa2 wedge",
        True,
        "at 1/T^2 with a decaying lr, no faster at constant lr",
    ),
    ("exact", "convex", "constant", "t3 t3b", "", True, "a smaller lr removes the effect of rho"),
    ("exact", "pl", "constant", "t4pl", "pl-trap", False, "the trap is numeric"),
    ("exact", "nonconvex", "constant", "t4", "trap trap-smooth trap-lipschitz", False, "no step size helps"),
    ("exact", "strongly-convex pl", "decaying", "d3 d1", "", True, "d3 with one sample and sigma = 0"),
    ("exact", "convex nonconvex", "decaying", "d1", "", True, ""),
    ("exact", "strongly-convex", "unnormalised", "u2sc u1pl", "u4 u3", True, "u2sc for any rho, u1pl for beta rho < 1"),
    ("exact", "convex", "unnormalised", "u2 u1", "u3", True, "u2 for any rho, u1 for beta rho < 1"),
    ("exact", "pl", "unnormalised", "u1pl", "", True, "beta rho < 1"),
    ("exact", "nonconvex", "unnormalised", "u1", "", True, "beta rho < 1"),
    ("exact", _ANY, "capped", "r1", "", True, "beta c < 1; under PL the least gap is at most the mean over 2 mu"),
    ("exact", "strongly-convex pl", "clipped", "r2pl r2", "", True, "needs no beta but for the step size"),
    ("exact", "convex nonconvex", "clipped", "r2", "", True, "needs no beta but for the step size"),
    ("m-sam", "strongly-convex", "constant", "t6", "e1 e2 e3", False, "for every lr, batch size and horizon"),
    ("m-sam", "convex", "constant", "t5", "e4 e3", False, "convexity does not help: e4 does not move at all"),
    ("m-sam", "pl", "constant", "t6", "e1 e2 e3", False, ""),
    ("m-sam", "nonconvex", "constant", "t5", "e5", False, ""),
    ("m-sam", "strongly-convex pl", "decaying", "d3 d2", "", True, "rho^2 proportional to lr"),
    ("m-sam", "convex nonconvex", "decaying", "d2", "", True, ""),
    ("m-sam", _ANY, "unnormalised", "us-m", "us-limit", False, "samples of unequal curvature move the limit; beta rho < 1"),
    ("m-sam", "strongly-convex pl", "capped", "t6", "", None, _UP_TO),
    ("m-sam", "convex nonconvex", "capped", "t5", "", None, _UP_TO),
    ("m-sam", "strongly-convex pl", "clipped", "t6", "", None, _CLIP),
    ("m-sam", "convex nonconvex", "clipped", "t5", "", None, _CLIP),
    ("n-sam", "strongly-convex", "constant", "t6 t8 t7", "e3", False, "t7 and t8 have no kappa^2"),
    ("n-sam", "convex", "constant", "t7 t5", "e3", False, "t7 bounds f at the perturbed points, by beta rho^2/2"),
    ("n-sam", "pl", "constant", "t6", "e3", False, ""),
    ("n-sam", "nonconvex", "constant", "t5", "e5", False, ""),
    ("n-sam", "strongly-convex pl", "decaying", "d3 d2", "", True, "rho^2 proportional to lr"),
    ("n-sam", "convex nonconvex", "decaying", "d2", "", True, ""),
    ("n-sam", _ANY, "unnormalised", "us", "", None, "that something stays is measured, not proved; beta rho < 1"),
    ("n-sam", "strongly-convex pl", "capped", "t6", "", None, _UP_TO),
    ("n-sam", "convex nonconvex", "capped", "t5", "", None, _UP_TO),
    ("n-sam", _ANY, "clipped", "", "", None, _OPEN),
)

CASES: dict[tuple[str, str, str], Case] = {
    (oracle, setting, radius): Case(tuple(rules.split()), tuple(evidence.split()), all_the_way, note)
    for oracle, settings, radius, rules, evidence, all_the_way, note in _ROWS
    for setting in settings.split()
}


def known(ids: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the ids that are registered."""
    there = registered()
    return tuple(name for name in ids if name in there)


def decided(case: Case) -> bool:
    """Whether registered statements prove that the method goes all the way, or that it cannot.

    Numeric statements and measurements are no proof.
    """
    if case.all_the_way is None:
        return False
    there: dict[str, Theorem] = registered()
    names = known(case.rules if case.all_the_way else case.evidence)
    return any(there[name].kind not in ("numeric", "measured") for name in names)
