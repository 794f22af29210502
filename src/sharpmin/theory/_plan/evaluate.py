"""One bound for one situation: the step size, the terms and the floor, all taken from the statement itself."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass, replace
from typing import Any

from sharpmin.core.rho import Capped, Constant, InverseSqrt, ProportionalToLR, RhoSchedule, Unnormalized

from .._simulation.lr import LRSchedule
from .._statements.atlas import atlas
from .._statements.situation import Rule
from .._statements.theorem import Theorem, registered

_TINY = 1e-200  # a step size that adds nothing to a bound that is continuous at lr = 0


@dataclass(frozen=True)
class Inputs:
    """A situation and its constants; None where unknown."""

    setting: str
    oracle: str
    radius: str
    beta: float
    mu: float | None
    sigma: float
    rho: float
    steps: int
    delta: float
    distance: float | None
    beta_component: float | None
    lr: float | None
    c: float | None
    clip: float | None
    quantity: str | None

    def trivial(self, quantity: str) -> float:
        """What is known before the first step."""
        climbed = (math.sqrt(self.delta) + self.rho * math.sqrt(self.beta / 2)) ** 2  # f(y) - f* by smoothness
        away = (self.distance or 0.0) ** 2
        known_at_start = {"gap": self.delta, "mean-gap": self.delta, "perturbed-gap": climbed, "squared-distance": away}
        return known_at_start.get(quantity, 2 * self.beta * self.delta)


@dataclass(frozen=True)
class Outcome:
    """A statement, the step size that it runs at, and its bound."""

    theorem: Theorem
    lr: float | LRSchedule
    bound: float

    @property
    def rule(self) -> Rule:
        """How the statement is used."""
        return rule_of(self.theorem)


def rule_of(theorem: Theorem) -> Rule:
    """How an upper bound is used."""
    if theorem.rule is None:
        raise TypeError(f"{theorem.id} is no upper bound that plan could use")
    return theorem.rule


def evaluate(inputs: Inputs) -> Outcome:
    """The best bound among the statements about the quantity that the preferred one bounds.

    Raises:
        ValueError: if no statement applies; the message gives every reason.
    """
    case = atlas()[inputs.oracle, inputs.setting, inputs.radius]
    rules = [registered()[name] for name in case.rules]
    reasons, found = [], list[Outcome]()
    for theorem in rules:
        quantity = rule_of(theorem).quantity
        if inputs.quantity not in (None, quantity) or (found and found[0].rule.quantity != quantity):
            continue
        try:
            found.append(_attempt(theorem, inputs))
        except ValueError as error:
            reasons.append(str(error))
    if found:
        return min(found, key=lambda outcome: outcome.bound)
    where = f"oracle={inputs.oracle!r}, setting={inputs.setting!r}, radius={inputs.radius!r}"
    if not reasons and inputs.quantity is not None and rules:
        have = ", ".join(dict.fromkeys(repr(rule_of(theorem).quantity) for theorem in rules))
        reasons = [f"none bounds quantity={inputs.quantity!r}; the quantities here are {have}"]
    elif not reasons:
        reasons = [case.note]
    raise ValueError(f"plan: no statement applies for {where}: {'; '.join(reasons)}")


def bound_at(theorem: Theorem, inputs: Inputs, lr: float | LRSchedule) -> float:
    """The bound of the statement with these constants and this step size."""
    keywords = _keywords(theorem, inputs)
    if "lr" in _parameters(theorem) and isinstance(lr, float):
        keywords["lr"] = lr
    return theorem.bound(**keywords) / (inputs.steps if rule_of(theorem).per_step else 1)


def terms(theorem: Theorem, inputs: Inputs, lr: float | LRSchedule) -> dict[str, float]:
    """What the start, the radius and the noise contribute at this lr; their sum, or largest, is the bound.

    What has both sigma and rho in it counts as noise.
    """
    started = _at_optimum(inputs)
    rest = bound_at(theorem, started, lr)
    if rule_of(theorem).maximum:
        return {"start": bound_at(theorem, replace(inputs, rho=0.0), lr), "radius": rest}
    parts = {"start": bound_at(theorem, inputs, lr) - rest, "radius": bound_at(theorem, replace(started, sigma=0.0), lr)}
    if inputs.oracle != "exact":
        parts["noise"] = rest - parts["radius"]
    return parts


def floor(theorem: Theorem, inputs: Inputs, lr: float | LRSchedule) -> float:
    """What stays of the bound as steps -> inf, with the step size that the statement then takes, or the given one."""
    rule = rule_of(theorem)
    if rule.floor is not None and inputs.lr is not None:
        return float(rule.floor(**_keywords(theorem, inputs, rule.floor), lr=inputs.lr))
    if rule.schedule or not isinstance(lr, float):
        return 0.0
    stays = bound_at(theorem, _at_optimum(inputs), _TINY if rule.vanishing and inputs.lr is None else lr)
    return stays if stays > math.sqrt(_TINY) else 0.0


def schedule(rule: Rule, inputs: Inputs) -> RhoSchedule:
    """The radius as training and the simulator take it."""
    if rule.schedule == "inverse-sqrt":
        return InverseSqrt(inputs.rho)
    if rule.schedule == "sqrt-lr":
        return ProportionalToLR(inputs.rho, lr=1 / inputs.beta, power=0.5)
    if inputs.radius == "unnormalised":
        return Unnormalized(inputs.rho)
    if inputs.radius == "capped" and inputs.c is not None:
        return Capped(inputs.rho, inputs.c)
    return Constant(inputs.rho)


def _at_optimum(inputs: Inputs) -> Inputs:
    return replace(inputs, delta=0.0, distance=None if inputs.distance is None else 0.0)


def _attempt(theorem: Theorem, inputs: Inputs) -> Outcome:
    rule = rule_of(theorem)
    takes_lr, start = "lr" in _parameters(theorem), "distance" if "distance" in _parameters(theorem) else "delta"
    lr: float | LRSchedule
    if inputs.lr is not None:
        if not takes_lr:
            raise ValueError(f"{theorem.id}: it prescribes its step size; leave out lr={inputs.lr:g}")
        lr = inputs.lr
    elif theorem.prescribed is not None:
        lr = theorem.step_size(**_keywords(theorem, inputs, theorem.prescribed))
    elif rule.step:
        other = registered()[rule.step]
        lr = other.step_size(**_keywords(other, inputs, other.prescribed))
    else:
        lr = _best_lr(theorem, inputs) if getattr(inputs, start) != 0 else 0.0
    if lr == 0:
        given = f"{start}={getattr(inputs, start):g}"
        raise ValueError(
            f"{theorem.id}: {given} says that x0 is a minimizer, so nothing has to be done and the step size is 0; give lr= to "
            "bound a run that moves all the same"
        )
    return Outcome(theorem, lr, bound_at(theorem, inputs, lr))


def _parameters(theorem: Theorem) -> Any:
    return inspect.signature(theorem.formula).parameters


def _keywords(theorem: Theorem, inputs: Inputs, function: Any = None) -> dict[str, Any]:
    """What the statement takes of what is known.

    Raises:
        ValueError: if it needs more.
    """
    decays = rule_of(theorem).schedule == "inverse-sqrt" and function is None
    radius = InverseSqrt(inputs.rho) if decays else inputs.rho
    pool = {
        "beta": inputs.beta, "mu": inputs.mu, "sigma": inputs.sigma, "rho": radius, "rho0": inputs.rho, "steps": inputs.steps,
        "delta": inputs.delta, "distance": inputs.distance, "beta_component": inputs.beta_component, "c": inputs.c,
        "clip": inputs.clip, "theta": inputs.clip, "oracle": "n-sam" if inputs.oracle == "exact" else inputs.oracle,
    }  # fmt: skip
    parameters = inspect.signature(theorem.formula if function is None else function).parameters.values()
    missing = [p.name for p in parameters if p.name != "lr" and p.default is p.empty and pool.get(p.name) is None]
    if missing:
        raise ValueError(f"{theorem.id}: it needs {', '.join(f'{name}=' for name in missing)}")
    return {p.name: pool[p.name] for p in parameters if pool.get(p.name) is not None}


def _best_lr(theorem: Theorem, inputs: Inputs) -> float:
    """The lr in (0, 1/beta) with the smallest bound: golden section on log lr; the bounds have one minimum.

    Some statements hold for small lr only, so what they refuse counts as infinite.
    """
    ratio = (math.sqrt(5) - 1) / 2

    def value(log_lr: float) -> float:
        try:
            return bound_at(theorem, inputs, math.exp(log_lr))
        except ValueError:
            return math.inf

    low, high = math.log(1e-12 / inputs.beta), math.log((1 - 1e-9) / inputs.beta)
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = value(left), value(right)
    for _ in range(45):  # lr to 1e-7, so the bound to 1e-14
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = value(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = value(right)
    return math.exp((low + high) / 2)
