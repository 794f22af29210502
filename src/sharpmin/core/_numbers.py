"""Numbers given by the user: converted to a float or an int in range, or one clear error."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

COUNTABLE = 2**63
"""An upper bound of counts and seeds."""


def real(value: Any) -> float:
    """A number as a float; one that no float can hold, such as `10**400`, is infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def finite(value: object, name: str, owner: str, *, low: float = -math.inf, strict: bool = False) -> float:
    """`value` as a float in `[low, inf)`, or `(low, inf)` if strict; else one clear error."""
    need = "a finite number" + (f" {'>' if strict else '>='} {low:g}" if low > -math.inf else "")
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{owner}: {name}={value!r} is a {type(value).__name__}; {name} must be {need}")
    number = real(value)
    if not math.isfinite(number) or number < low or (strict and number == low):
        raise ValueError(f"{owner}: {name}={value if math.isfinite(number) else number!r}; {name} must be {need}")
    return number


def positive_integer(value: object, name: str, owner: str) -> int:
    """`value` as an int >= 1; else one clear error."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{owner}: {name}={value!r} is a {type(value).__name__}; {name} must be an integer >= 1")
    if value < 1:
        raise ValueError(f"{owner}: {name}={value!r}; {name} must be an integer >= 1")
    if value >= COUNTABLE:
        raise ValueError(f"{owner}: {name} has {value.bit_length()} bits; {name} must be an integer below 2**63")
    return value
