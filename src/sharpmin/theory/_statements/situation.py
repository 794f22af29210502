"""Situations (an oracle, a setting and a radius), the ones to which a statement applies, and how its bound is used there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, get_args

OracleName = Literal["exact", "m-sam", "n-sam"]
SettingName = Literal["strongly-convex", "convex", "pl", "nonconvex"]
Radius = Literal["constant", "decaying", "unnormalized", "capped", "clipped"]
Quantity = Literal["gap", "mean-gap", "squared-gradient", "least-squared-gradient", "perturbed-gap", "squared-distance"]

ORACLES: tuple[str, ...] = get_args(OracleName)
SETTINGS: tuple[str, ...] = get_args(SettingName)
RADII: tuple[str, ...] = get_args(Radius)
QUANTITIES: dict[str, str] = {
    "gap": "E f(x_T) - f*",
    "mean-gap": "mean over t < T of E f(x_t) - f*",
    "squared-gradient": "mean over t < T of E ||grad f(x_t)||^2",
    "least-squared-gradient": "min over t < T of E ||grad f(x_t)||^2",
    "perturbed-gap": "mean over t < T of E f(y_t) - f*",
    "squared-distance": "E ||x_T - x*||^2",
}

ANY = " ".join(SETTINGS)
"""All settings."""

CONVEX: Mapping[str, Any] = {"beta": 1.0, "rho": 0.5, "steps": 1000, "delta": 1.0}
STRONG: Mapping[str, Any] = {**CONVEX, "mu": 0.1}
NOISY: Mapping[str, Any] = {**CONVEX, "sigma": 0.3}
"""Example constants that many statements take."""

UP_TO = "the upper bound needs only radii of at most rho; that something stays is measured, not proved"
CLIPPING = (
    "clipping only shortens the difference of the gradients, so the bound of constant rho holds; that something stays is "
    "measured, not proved"
)
"""Notes for radii to which a statement about constant rho also applies."""


@dataclass(frozen=True)
class Rule:
    """How an upper bound is used by `plan`.

    Attributes:
        quantity: the quantity that is bounded; a key of `QUANTITIES`.
        formula: the bound as short text.
        vanishing: whether the step size tends to 0 as T grows, if none is given.
        maximum: whether the bound is the largest of its terms, not their sum.
        schedule: "inverse-sqrt" or "sqrt-lr" where the radius decays: rho/sqrt(t+1), or rho (beta lr_t)^(1/2).
        per_step: whether the statement bounds the sum over t < T, so that the mean is its T-th part.
        up_to_rho: whether the bound of constant rho also holds for any radii rho_t <= rho; `plan` uses it where rho decays.
        switch: whether rho is 0 from the step `switch` on, a keyword of the bound; `plan` advises that step.
        residual: whether the bound takes the noise as a `residual`, a keyword; `plan` uses it only where one is given.
        floor: the limit as T -> inf at a given lr, a function of keywords; None if it is the bound for a start at the optimum.
    """

    quantity: Quantity
    formula: str
    vanishing: bool = False
    maximum: bool = False
    schedule: str = ""
    per_step: bool = False
    up_to_rho: bool = False
    switch: bool = False
    residual: bool = False
    floor: Callable[..., float] | None = None


@dataclass(frozen=True)
class Place:
    """Situations to which a statement applies: all combinations of the oracles, settings and radii.

    Attributes:
        oracles, settings, radii: names with blanks between them.
        all_the_way: True where the statement proves that the method converges to the optimum, or to stationarity; False where
            it proves that it cannot; None where it does not decide.
        rank: statements with a smaller rank are used, and named, first.
        note: conditions and remarks.
    """

    oracles: str
    settings: str
    radii: str
    all_the_way: bool | None = None
    rank: int = 0
    note: str = ""

    def situations(self) -> Iterator[tuple[str, str, str]]:
        """All triples (oracle, setting, radius)."""
        return product(self.oracles.split(), self.settings.split(), self.radii.split())
