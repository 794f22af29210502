"""The bounds of one situation: the step size, the terms and the floor, all computed from the statements' formulas."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from sharpmin.core.rho import Capped, Constant, InverseSqrt, ProportionalToLR, RhoSchedule, Unnormalized

from .._simulation.lr import LRSchedule
from .._statements.atlas import atlas
from .._statements.situation import Rule
from .._statements.theorem import Theorem, registered
from .least import least

_TINY = 1e-200  # stands for lr -> 0


@dataclass(frozen=True)
class Inputs:
    """A situation and its constants; None where unknown."""

    setting: str
    oracle: str
    radius: str
    beta: float
    mu: float | None
    sigma: float | None  # None where the noise is a residual
    rho: float
    steps: int
    delta: float
    distance: float | None
    beta_component: float | None
    lr: float | None
    c: float | None
    clip: float | None
    quantity: str | None
    residual: tuple[float, float, float] | None = None
    switch: int | None = None

    def quiet(self) -> Inputs:
        """The same inputs with sigma = 0, or with C = 0 in the residual."""
        return replace(self, sigma=0.0) if self.residual is None else replace(self, residual=(*self.residual[:2], 0.0))

    def trivial(self, quantity: str) -> float:
        """The bound on `quantity` that holds before the first step."""
        if quantity.endswith("gradient"):
            return 2 * self.beta * self.delta
        climbed = (math.sqrt(self.delta) + self.rho * math.sqrt(self.beta / 2)) ** 2  # f(y) - f* by smoothness
        return {"perturbed-gap": climbed, "squared-distance": (self.distance or 0.0) ** 2}.get(quantity, self.delta)


@dataclass(frozen=True)
class Evaluated:
    """A statement, the step size that it runs at, and its bound."""

    theorem: Theorem
    lr: float | LRSchedule
    bound: float

    @property
    def rule(self) -> Rule:
        """How the statement is used."""
        return rule_of(self.theorem)


def rule_of(theorem: Theorem) -> Rule:
    """How an upper bound is used; a `TypeError` for any other statement."""
    if theorem.rule is None:
        raise TypeError(f"{theorem.id} is not an upper bound with a rule= for plan")
    return theorem.rule


def evaluate(inputs: Inputs) -> Evaluated:
    """The smallest of the bounds on one quantity; raises as `outcomes` does."""
    return min(outcomes(inputs), key=lambda outcome: outcome.bound)


def outcomes(inputs: Inputs) -> list[Evaluated]:
    """The bounds on `inputs.quantity`, by default on the quantity that the preferred statement bounds.

    Raises:
        ValueError: if no statement applies; the message gives every reason.
    """
    rules = usable(inputs)
    reasons, found = [], list[Evaluated]()
    for theorem in rules:
        quantity = rule_of(theorem).quantity
        if inputs.quantity not in (None, quantity) or (found and found[0].rule.quantity != quantity):
            continue
        try:
            found.append(attempt(theorem, inputs))
        except ValueError as error:
            reasons.append(str(error))
    if found:
        return found
    where = f"oracle={inputs.oracle!r}, setting={inputs.setting!r}, radius={inputs.radius!r}"
    if not reasons and inputs.quantity is not None and rules:
        have = ", ".join(dict.fromkeys(repr(rule_of(theorem).quantity) for theorem in rules))
        reasons = [f"none bounds quantity={inputs.quantity!r}; the quantities here are {have}"]
    elif not reasons and inputs.residual is not None:
        reasons = [f"of the statements, {_takers()} can use residual=; for the others give sigma="]
    elif not reasons:
        reasons = [atlas()[inputs.oracle, inputs.setting, inputs.radius].note]
    raise ValueError(f"plan: no statement applies for {where}: {'; '.join(reasons)}")


def _takers() -> str:
    """The statements that take an expected residual, with the oracles and radii that they cover."""
    places = {
        f"{theorem.id} (oracle={place.oracles!r}, radius {' or '.join(map(repr, place.radii.split()))})"
        for theorem in registered().values()
        if theorem.rule and theorem.rule.residual
        for place in theorem.places
    }
    return ", ".join(sorted(places))


def usable(inputs: Inputs) -> list[Theorem]:
    """The upper bounds for the situation; for a decaying rho, also those for constant rho that hold for all rho_t <= rho.

    If the noise is an expected residual, only those that take one.
    """
    cases, there = atlas(), registered()
    if inputs.residual is not None:
        return [there[name] for name in cases[inputs.oracle, inputs.setting, inputs.radius].residuals]
    names = dict.fromkeys(cases[inputs.oracle, inputs.setting, inputs.radius].rules)
    if inputs.radius == "decaying":
        constant = cases[inputs.oracle, inputs.setting, "constant"].rules
        names |= dict.fromkeys(name for name in constant if rule_of(there[name]).up_to_rho)
    return [there[name] for name in names]


def bound_at(theorem: Theorem, inputs: Inputs, lr: float | LRSchedule) -> float:
    """The bound of the statement with these constants and this step size."""
    keywords = _keywords(theorem, inputs)
    if "lr" in _parameters(theorem.formula) and isinstance(lr, float):
        keywords["lr"] = lr
    return theorem.bound(**keywords) / (inputs.steps if rule_of(theorem).per_step else 1)


def terms(theorem: Theorem, inputs: Inputs, lr: float | LRSchedule) -> dict[str, float]:
    """The contributions of the start, the radius and the noise to the bound at this lr; the bound is their sum, or the largest.

    A term with both rho and sigma, or both rho and C of a residual, counts as noise.
    """
    started = _at_optimum(inputs)
    rest = bound_at(theorem, started, lr)
    if rule_of(theorem).maximum:
        return {"start": bound_at(theorem, replace(inputs, rho=0.0), lr), "radius": rest}
    parts = {"start": bound_at(theorem, inputs, lr) - rest, "radius": bound_at(theorem, started.quiet(), lr)}
    if inputs.oracle != "exact":
        parts["noise"] = rest - parts["radius"]
    return parts


def floor(inputs: Inputs, found: Sequence[Evaluated]) -> float:
    """The limit of the smallest bound as steps -> inf, at the given step size or at the one that each bound then takes."""
    return min(_floor(outcome, inputs) for outcome in found)


def _floor(outcome: Evaluated, inputs: Inputs) -> float:
    theorem, rule, lr = outcome.theorem, outcome.rule, outcome.lr
    if rule.floor is not None and inputs.lr is not None:
        return float(rule.floor(**_keywords(theorem, inputs, rule.floor), lr=inputs.lr))
    if rule.schedule or not isinstance(lr, float):
        return 0.0
    late = _TINY if rule.vanishing and inputs.lr is None else lr
    if rule.floor is not None:
        stays = float(rule.floor(**_keywords(theorem, inputs, rule.floor), lr=late))
    else:
        stays = bound_at(theorem, _at_optimum(inputs), late)
    return stays if stays > math.sqrt(_TINY) else 0.0


def schedule(rule: Rule, inputs: Inputs) -> RhoSchedule:
    """The radius as training and the simulator take it."""
    if rule.schedule == "sqrt-lr":
        return ProportionalToLR(inputs.rho, lr=1 / inputs.beta, power=0.5)
    if inputs.radius == "decaying":
        return InverseSqrt(inputs.rho)
    if inputs.radius == "unnormalized":
        return Unnormalized(inputs.rho)
    if inputs.radius == "capped" and inputs.c is not None:
        return Capped(inputs.rho, inputs.c)
    return Constant(inputs.rho)


def _at_optimum(inputs: Inputs) -> Inputs:
    return replace(inputs, delta=0.0, distance=None if inputs.distance is None else 0.0)


def attempt(theorem: Theorem, inputs: Inputs) -> Evaluated:
    """The statement at the given step size, or at the one with the smallest bound.

    Raises:
        ValueError: if it does not hold, needs more constants, or would give lr = 0 since x0 is a minimizer.
    """
    takes_lr = "lr" in _parameters(theorem.formula)
    start = "distance" if "distance" in _parameters(theorem.formula) else "delta"
    lr: float | LRSchedule
    if inputs.lr is not None:
        if not takes_lr:
            raise ValueError(f"{theorem.id}: it prescribes its step size; leave out lr={inputs.lr:g}")
        lr = inputs.lr
    elif takes_lr:
        lr = _best_lr(theorem, inputs, moves=getattr(inputs, start) != 0)
    else:
        lr = theorem.step_size(**_keywords(theorem, inputs, theorem.prescribed))
    if lr == 0:
        given = f"{start}={getattr(inputs, start):g}"
        raise ValueError(
            f"{theorem.id}: {given} says that x0 is a minimizer, so nothing has to be done and the step size is 0; give lr= to "
            "bound a run that moves all the same"
        )
    return Evaluated(theorem, lr, bound_at(theorem, inputs, lr))


def _best_lr(theorem: Theorem, inputs: Inputs, *, moves: bool) -> float:
    """The lr in (0, 1/beta] with the smallest bound: the prescribed one unless another is better by more than rounding.

    A bound that is smallest for lr -> 0 is no better than its value before the first step; the prescribed lr is then kept.
    If the statement prescribes none, lr is 0 for a start at the optimum.
    """
    keywords = _keywords(theorem, inputs)

    def value(lr: float) -> float:  # `bound` would check the inputs again, at ten times the cost
        try:
            found: float = theorem.formula(**keywords, lr=lr)
        except (ValueError, ArithmeticError):
            return math.inf  # some statements hold for small lr only
        return found if found < math.inf else math.inf  # also for nan

    if theorem.prescribed is None:
        return least(value, 1 / inputs.beta) if moves else 0.0
    prescribed = float(theorem.step_size(**_keywords(theorem, inputs, theorem.prescribed)))
    if not moves:
        return prescribed
    best = least(value, 1 / inputs.beta)
    return best if value(best) < min(value(prescribed), value(_TINY)) * (1 - 1e-9) else prescribed


@cache
def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(function).parameters


def _keywords(theorem: Theorem, inputs: Inputs, function: Callable[..., Any] | None = None) -> dict[str, Any]:
    """The inputs that the statement takes, as keywords.

    Raises:
        ValueError: if one that it needs is unknown.
    """
    decays = rule_of(theorem).schedule == "inverse-sqrt" and function is None
    radius = InverseSqrt(inputs.rho) if decays else inputs.rho
    pool = {
        "beta": inputs.beta, "mu": inputs.mu, "sigma": inputs.sigma, "rho": radius, "rho0": inputs.rho, "steps": inputs.steps,
        "delta": inputs.delta, "distance": inputs.distance, "beta_component": inputs.beta_component, "c": inputs.c,
        "clip": inputs.clip, "theta": inputs.clip, "oracle": "n-sam" if inputs.oracle == "exact" else inputs.oracle,
        "switch": inputs.switch, "residual": inputs.residual, "lam": 0.0 if inputs.radius == "unnormalized" else 1.0,
    }  # fmt: skip
    parameters = _parameters(theorem.formula if function is None else function).values()
    missing = [p.name for p in parameters if p.name != "lr" and p.default is p.empty and pool.get(p.name) is None]
    if missing:
        raise ValueError(f"{theorem.id}: it needs {', '.join(f'{name}=' for name in missing)}")
    return {p.name: pool[p.name] for p in parameters if pool.get(p.name) is not None}
