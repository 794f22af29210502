"""`plan`: the bounds that hold for a planned run, and what to change if they are too large."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from sharpmin.core.rho import finite

from .._statements.assume import no_none, numbers, require, residual_of, within_floats
from .._statements.atlas import atlas
from .._statements.situation import ORACLES, QUANTITIES, RADII, SETTINGS
from .._statements.theorem import Theorem
from .advice import advise
from .evaluate import Inputs, evaluate, floor, outcomes, rule_of, schedule, terms, usable
from .result import Plan


def plan(
    *,
    setting: str,
    oracle: str = "m-sam",
    radius: str = "constant",
    beta: float,
    mu: float | None = None,
    sigma: float | None = None,
    residual: tuple[float, float, float] | None = None,
    rho: float,
    steps: int,
    delta: float,
    distance: float | None = None,
    beta_component: float | None = None,
    lr: float | None = None,
    c: float | None = None,
    clip: float | None = None,
    quantity: str | None = None,
    accuracy: float | None = None,
) -> Plan:
    """The step size, the bound and the floor of a planned run, and the statements behind them.

    Args:
        setting: "strongly-convex", "convex", "pl" or "nonconvex".
        oracle: "exact" (full gradients), "m-sam" (the same sample in both passes, as practiced) or "n-sam" (independent).
        radius: "constant", "decaying", "unnormalized" (rho ||g||), "capped" (min(rho, c ||g||)) or "clipped" (the difference
            of the two gradients, at most `clip` ||g||).
        beta: smoothness of f.
        mu: strong convexity, or the PL constant; needed for "strongly-convex" and "pl".
        sigma: root mean square of the gradient noise; needed for "m-sam" and "n-sam".
        residual: in place of sigma, for noise that grows: (A, B, C) with E||g||^2 <= 2 A (f - f*) + B ||grad f||^2 + C for the
            gradient g of a sample (Oikonomou & Loizou, ICLR 2025, arXiv:2503.02225). A variance of sigma^2 is (0, 1, sigma^2).
        rho: the radius; its first value where it decays, the factor of ||g|| where it is unnormalized.
        steps: T.
        delta: f(x0) - f*.
        distance: ||x0 - x*||; needed by the bounds that start from it.
        beta_component: smoothness of the samples, for m-SAM; the root mean square over draws is enough, except for
            `residual` with "unnormalized". Default beta.
        lr: a step size; default is the one with the smallest bound.
        c: the cap of "capped"; default 1/(2 beta).
        clip: theta of "clipped"; default 0.5.
        quantity: what to bound, where statements bound several things: a key of `QUANTITIES`.
        accuracy: the value that the bound should reach; gives advice.

    Returns:
        A `Plan`; `print(plan(...))` reads as a table.

    Raises:
        TypeError: for an argument of the wrong type, such as a schedule for rho.
        ValueError: if no statement applies, a constant is missing, or a number would be beyond floating point; the message
            says which. Also at a minimizer (delta or distance 0), where the best step size is 0.

    >>> k = {"beta": 1.0, "mu": 0.1, "sigma": 0.1, "rho": 0.05, "steps": 10_000, "delta": 1.0}
    >>> p = plan(setting="strongly-convex", oracle="m-sam", **k)
    >>> p.ids[0], round(p.bound, 5), round(p.floor, 5), p.dominant
    ('t6', 0.01363, 0.0125, 'radius')
    >>> plan(setting="strongly-convex", oracle="m-sam", accuracy=1e-3, **k).advice[0].text
    'rho = 0.008571, 5.83 times smaller, at the same number of steps'
    """
    inputs = _inputs(locals())
    if accuracy is not None:
        accuracy = finite(accuracy, "accuracy", "plan", low=0, strict=True)
    return within_floats("plan", vars(inputs), lambda: _planned(inputs, accuracy))


def _planned(inputs: Inputs, accuracy: float | None) -> Plan:
    found = outcomes(inputs)
    outcome = min(found, key=lambda outcome: outcome.bound)
    theorem, rule = outcome.theorem, outcome.rule
    case = atlas()[inputs.oracle, inputs.setting, inputs.radius]
    trivial = inputs.trivial(rule.quantity)
    vacuous = outcome.bound >= trivial > 0
    target = accuracy if accuracy is not None else trivial * (1 - 1e-9) if vacuous else None
    parts = terms(theorem, inputs, outcome.lr)
    return Plan(
        setting=inputs.setting,
        oracle=inputs.oracle,
        radius=inputs.radius,
        quantity=rule.quantity,
        step_size=outcome.lr,
        rho=schedule(rule, inputs),
        clip=inputs.clip,
        steps=inputs.steps,
        bound=outcome.bound,
        trivial=trivial,
        floor=floor(inputs, found),
        terms=parts,
        dominant=max(parts, key=lambda name: parts[name]),
        ids=(theorem.id, *(case.evidence if case.all_the_way is False and inputs.residual is None else ())),
        vacuous=vacuous,
        accuracy=accuracy,
        enough=None if accuracy is None else outcome.bound <= accuracy,
        advice=() if target is None or outcome.bound <= target else advise(inputs, target),
        note=_note(theorem, inputs),
        instead=dict(_instead(inputs, rule.quantity)) if vacuous else {},
    )


def _note(theorem: Theorem, inputs: Inputs) -> str:
    situation = (inputs.oracle, inputs.setting, inputs.radius)
    if rule_of(theorem).residual:
        return "; ".join(place.note for place in theorem.places if situation in place.situations() and place.note)
    case = atlas()[situation]
    return (
        case.note
        if theorem.id in case.rules
        else f"{theorem.id} is a bound of constant rho, which holds for any radii of at most rho"
    )


def _instead(inputs: Inputs, vacuous: str) -> Iterator[tuple[str, float]]:
    """The other quantities whose bound is not vacuous, with that bound."""
    for quantity in dict.fromkeys(rule_of(theorem).quantity for theorem in usable(inputs)):
        try:
            bound = evaluate(replace(inputs, quantity=quantity)).bound
        except ValueError:
            continue  # it needs a constant that was not given
        if quantity != vacuous and bound < inputs.trivial(quantity):
            yield quantity, bound


_CHOICES = {"setting": SETTINGS, "oracle": ORACLES, "radius": RADII, "quantity": QUANTITIES}


def _inputs(given: dict[str, Any]) -> Inputs:
    """All arguments, checked, with the defaults of the radius filled in."""
    for name, choices in _CHOICES.items():
        if given[name] not in choices and (name, given[name]) != ("quantity", None):
            raise ValueError(f"plan: {name}={given[name]!r} must be one of {', '.join(choices)}")
    if callable(given["rho"]):
        raise TypeError(f"plan: rho={given['rho']!r} is a schedule; give a number, and radius= for how it is applied")
    no_none("plan", inspect.signature(plan), given)
    given = given | numbers("plan", {k: v for k, v in given.items() if k not in ("clip", "accuracy", "quantity")})
    setting, oracle, radius = given["setting"], given["oracle"], given["radius"]
    if setting in ("strongly-convex", "pl") and given["mu"] is None:
        raise ValueError(f"plan: setting={setting!r} needs mu=, the constant of strong convexity or of PL")
    if given["residual"] is None:
        given["sigma"] = _sigma(oracle, given["sigma"])
    else:
        given["residual"] = _residual(oracle, given["sigma"], given["residual"])
    _put_in(given, radius)
    return Inputs(**{name: given[name] for name in Inputs.__dataclass_fields__.keys() & given})


def _put_in(given: dict[str, Any], radius: str) -> None:
    """The constants that only one radius takes, with their defaults."""
    for name, home in (("c", "capped"), ("clip", "clipped")):
        says = f"{name}={given[name]!r} belongs to radius={home!r}, not to {radius!r}"
        require(given[name] is None or radius == home, "plan", says)
    if radius == "clipped":
        given["clip"] = _theta(given["clip"])
    if radius == "capped" and given["c"] is None:
        given["c"] = 1 / (2 * given["beta"])


def _sigma(oracle: str, sigma: float | None) -> float:
    if oracle != "exact" and sigma is None:
        raise ValueError(f"plan: oracle={oracle!r} needs sigma=, the root mean square of the gradient noise")
    if oracle == "exact" and sigma:
        raise ValueError(f"plan: sigma={sigma:g} with oracle='exact'; full gradients have no noise: 'm-sam' or 'n-sam'")
    return sigma or 0.0


def _residual(oracle: str, sigma: float | None, residual: Any) -> tuple[float, float, float]:
    checked = residual_of("plan", residual)
    if oracle == "exact":
        raise ValueError(f"plan: residual={residual!r} with oracle='exact'; full gradients have no noise: take oracle='m-sam'")
    if sigma is not None:
        raise ValueError(f"plan: sigma={sigma:g} and residual={residual!r} both say how large the noise is; leave out one")
    return checked


def _theta(clip: Any) -> float:
    """`clip` of radius "clipped", 0.5 by default."""
    theta = 0.5 if clip is None else finite(clip, "clip", "plan", low=0, strict=True)
    require(theta < 1, "plan", f"clip={theta!r} (theta) must be in (0, 1)")
    return theta
