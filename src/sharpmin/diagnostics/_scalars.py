"""The numbers that one row of a watched run is shown as, by name: a row of one step, or of one block of steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

Reading: TypeAlias = Callable[[Mapping[str, Any]], float]


def cosine(row: Mapping[str, Any]) -> float:
    """Of g and G = g + D.

    >>> cosine({"gg": 9.0, "dg": 0.0, "dd": 16.0})
    0.6
    """
    gg, dg, dd = (float(row[key]) for key in ("gg", "dg", "dd"))
    return max(-1.0, min(1.0, (gg + dg) / math.sqrt(gg * (gg + 2 * dg + dd))))


STEP: Mapping[str, Reading] = {
    "loss": lambda row: row["loss"],
    "rho": lambda row: row["rho"],
    "lr": lambda row: row["lr"],
    "radius": lambda row: row["radius"],
    "reach": lambda row: row["radius"] / row["rho"],
    "gradient norm": lambda row: math.sqrt(row["gg"]),
    "difference norm": lambda row: math.sqrt(row["dd"]),
    "amplification": lambda row: row["dg"] / row["gg"],
    "cosine": cosine,
    "lag": lambda row: row["lag"],
}
"""`reach` is how far the weights moved, over rho; `lag` the cosine of one gradient and the next."""

BLOCK: Mapping[str, Reading] = {
    "loss": lambda row: row["loss"],
    "curvature": lambda row: row["curvature"],
    "smoothness": lambda row: row.get("steep", row["norm_d"] / row["rho"][1]),
    "bounce": lambda row: row["bounce"],
    "amplification": lambda row: row["dg"] / row["gg"],
}


def scalar(row: Mapping[str, Any], of: Reading) -> float:
    """The number, or nan where the row does not have it."""
    try:
        return float(of(row))
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return math.nan
