"""The named numbers of one row of a watched run, for figures and trackers."""

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
    "climbed": lambda row: row["climbed"],
    "total passes": lambda row: row["total_passes"],
}
"""`reach` is how far the weights moved, over rho; `lag` the cosine of one gradient and the next; `climbed` and `total passes`
are those of `opt.last`, this step included.
"""

BLOCK: Mapping[str, Reading] = {
    "loss": lambda row: row["loss"],
    "curvature": lambda row: row["curvature"],
    "edge of stability": lambda row: row["edge"],
    "smoothness": lambda row: row.get("steep", row["norm_d"] / row["rho"][1]),
    "bounce": lambda row: row["bounce"],
    "amplification": lambda row: row["dg"] / row["gg"],
}


def scalar(row: Mapping[str, Any], of: Reading) -> float:
    """The number, or nan if the row does not have it."""
    try:
        return float(of(row))
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return math.nan


_TABLES = {"step": (STEP, "step"), "block": (BLOCK, "last")}


def scalars(row: Mapping[str, Any], *, prefix: str = "sharpmin") -> tuple[int, dict[str, float]]:
    """The numbers of a row by name, as the TensorBoard writer names them: for a tracker that is given to `watch(to=...)`.

    What a row lacks, or is not finite, is left out; the row that opens a run has none.

    Args:
        row: of a watched run.
        prefix: of the names, which are `prefix/step/loss`, `prefix/block/curvature` and so on.

    Returns:
        The step that the numbers belong to, of a block its last one, and name -> number.

    >>> scalars({"kind": "step", "step": 3, "rho": 0.05, "gg": 4.0, "dd": 0.0, "loss": math.inf})
    (3, {'sharpmin/step/rho': 0.05, 'sharpmin/step/gradient norm': 2.0, 'sharpmin/step/difference norm': 0.0})
    """
    kind = row["kind"]
    if kind not in _TABLES:
        return 0, {}
    table, at = _TABLES[kind]
    values = {f"{prefix}/{kind}/{name}": scalar(row, of) for name, of in table.items()}
    return int(row[at]), {name: value for name, value in values.items() if math.isfinite(value)}
