"""Conditions under which a statement holds. Outside them it claims nothing, so the code raises one clear error."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping
from inspect import Signature
from numbers import Integral, Real
from typing import Any, TypeVar

from sharpmin.core.rho import COUNTABLE, real

T = TypeVar("T")
_POSITIVE = frozenset({"beta", "mu", "lr", "beta_component", "curvature", "w", "c", "d"})
_NON_NEGATIVE = frozenset({"sigma", "rho", "rho0", "delta", "distance", "s", "constant_gap"})
_FRACTIONS = {"p": 0.5, "theta": 0.5}  # in (0, limit); theta may not reach its limit, p may


def require(holds: bool, owner: str, what: str) -> None:
    """Raise a `ValueError` that begins with the statement's id unless the condition holds."""
    if not holds:
        raise ValueError(f"{owner}: {what}")


def numbers(owner: str, values: Mapping[str, Any], schedules: Container[str] = ()) -> dict[str, Any]:
    """Check the keywords of a statement by name: finite, in their domain, `mu <= beta`; None is allowed.

    Args:
        owner: the statement or function that the message begins with.
        values: the keywords.
        schedules: the names whose values may also be callables, such as a radius over time.

    Raises:
        TypeError: if a value is not a number.
        ValueError: if a number is outside its domain.
    """
    checked = {
        name: value if callable(value) and name in schedules else _number(owner, name, value) for name, value in values.items()
    }
    beta, mu = checked.get("beta"), checked.get("mu")
    if beta is not None and mu is not None:
        require(
            mu <= beta, owner, f"mu={mu:g} exceeds beta={beta:g}; a beta-smooth, mu-strongly convex function needs mu <= beta"
        )
    return checked


def _number(owner: str, name: str, value: Any) -> Any:
    if name == "steps":
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise TypeError(f"{owner}: steps={value!r} must be an integer >= 1")
        require(value < COUNTABLE, owner, f"steps has {int(value).bit_length()} bits; it must be below 2**63")
        require(int(value) >= 1, owner, f"steps={value} must be an integer >= 1")
        return int(value)
    if name not in _POSITIVE | _NON_NEGATIVE | _FRACTIONS.keys() or value is None:
        return value
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{owner}: {name}={value!r} is a {type(value).__name__}; {name} must be a number")
    number = real(value)
    if name in _FRACTIONS:
        limit = _FRACTIONS[name]
        inside = 0 < number < limit or (name == "p" and number == limit)
        require(inside, owner, f"{name}={number:g} must be in (0, {limit:g}{']' if name == 'p' else ')'}")
    else:
        sign = "> 0" if name in _POSITIVE else ">= 0"
        inside = math.isfinite(number) and (number > 0 if name in _POSITIVE else number >= 0)
        require(inside, owner, f"{name}={number:g} must be finite and {sign}")
    return number


def residual_of(owner: str, residual: Any) -> tuple[float, float, float]:
    """(A, B, C), checked.

    Raises:
        TypeError: unless they are three numbers.
        ValueError: unless they are finite and >= 0.
    """
    if not isinstance(residual, (tuple, list)) or len(residual) != 3:
        raise TypeError(f"{owner}: residual={residual!r} must be three numbers (A, B, C), such as (0.0, 1.0, sigma**2)")
    if any(isinstance(v, bool) or not isinstance(v, Real) for v in residual):
        raise TypeError(f"{owner}: residual={residual!r} must hold numbers only")
    a, b, c = map(real, residual)
    require(all(math.isfinite(v) and v >= 0 for v in (a, b, c)), owner, f"residual={residual!r} must be finite and >= 0")
    return a, b, c


def no_none(owner: str, signature: Signature, keywords: Mapping[str, Any]) -> None:
    """Raise `TypeError` for a None whose parameter does not have the default None."""
    for name, value in keywords.items():
        parameter = signature.parameters.get(name)
        if value is None and parameter is not None and parameter.default is not None:
            raise TypeError(f"{owner}: {name}=None is a NoneType; {name} must be given")


def within_floats(owner: str, given: Mapping[str, Any], compute: Callable[[], T]) -> T:
    """The result of `compute`; a `ValueError` with the given numbers if it overflows, divides by 0, or is not finite."""
    try:
        result = compute()
        if not isinstance(result, float) or math.isfinite(result):
            return result
    except ArithmeticError:
        pass
    shown = ", ".join(f"{name}={value:.6g}" for name, value in given.items() if isinstance(value, Real)) or "the numbers"
    raise ValueError(
        f"{owner}: {shown} lead beyond floating point (1e-308 to 1e308); measure f and x in units that bring them near 1"
    )


def over(numerator: float, denominator: float) -> float:
    """The quotient, or inf if the denominator is 0 or underflows to 0; for terms of a minimum."""
    return numerator / denominator if denominator else math.inf


def step_below(owner: str, lr: float, limit: float, formula: str, *, strict: bool) -> None:
    """Require `lr < limit` or `lr <= limit`; prescribed step sizes may exceed the limit by rounding."""
    holds = lr < limit if strict else lr <= limit * (1 + 1e-12)
    require(holds, owner, f"lr={lr:g} must be {'below' if strict else 'at most'} {formula}={limit:g}")


def claimed_residual(owner: str, residual: Any, samples: int) -> tuple[float, float, float] | None:
    """(A, B, C) of a problem with `samples` samples, checked; None where it is not claimed.

    Raises:
        TypeError: unless they are three numbers, or for a single sample, which has no noise.
        ValueError: unless they are finite and >= 0.
    """
    if residual is not None and samples == 1:
        raise TypeError(f"{owner}: residual={residual!r} is a claim about noise, and one sample has none; leave out residual=")
    return None if residual is None else residual_of(owner, residual)
