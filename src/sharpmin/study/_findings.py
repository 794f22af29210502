"""What a study shows, in sentences that its own intervals decide: the price of going all the way, and the use of clipping."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ._data import CLEAN, NOISY
from ._methods import METHODS
from ._run import Cell
from ._table import Estimate, Line, paired, table

HARMLESS = 0.03
"""By so much may clipping with a large rho fall short of a tuned rho in accuracy, and be called harmless."""

Rows = Mapping[Cell, Mapping[str, Any]]


@dataclass(frozen=True)
class Finding:
    """A sentence, and whether these runs show the side that it is about."""

    side: str
    shown: bool
    sentence: str


def findings(rows: Rows) -> list[Finding]:
    """Both sides, as far as the rows reach."""
    lines = {(line.method, line.noise): line for line in table(rows)}
    return [*_price(rows, lines), *_clipping(rows, lines)]


def _price(rows: Rows, lines: Mapping[tuple[str, float], Line]) -> list[Finding]:
    """Of the methods that go further than constant SAM under label noise, the one that goes furthest."""
    if ("sam", NOISY) not in lines:
        return []
    tuned = _rho(rows, NOISY)[0]
    further = [
        (line.gap.mean, name)
        for (name, noise), line in lines.items()
        if noise == NOISY and paired(rows, "gap", name, "sam", NOISY).high < 0
    ]
    if not further:
        text = f"Under label noise, no method had a clearly lower training loss than SAM with rho {tuned:g}."
        return [Finding("price", False, text)]
    gap, name = min(further)
    price = paired(rows, "accuracy", name, "sam", NOISY)
    began = (
        f"Under label noise, “{METHODS[name].title}” went furthest: training loss {gap:.2g} above the optimum, "
        f"where SAM with rho {tuned:g} was {lines['sam', NOISY].gap.mean:.2g} above it"
    )
    if price.high < 0:
        return [Finding("price", True, f"{began}; it lost {_points(price, -1)} of test accuracy.")]
    return [Finding("price", False, f"{began}; its test accuracy was not clearly lower ({_points(price)}).")]


def _clipping(rows: Rows, lines: Mapping[tuple[str, float], Line]) -> list[Finding]:
    """SAM with the large rho against the same with clipping, and that against the tuned rho."""
    found = []
    for noise, when in ((CLEAN, "On clean labels"), (NOISY, "Under label noise")):
        if ("sam-large", noise) not in lines or ("clipped-large", noise) not in lines:
            continue
        tuned, large = _rho(rows, noise)
        gain = paired(rows, "accuracy", "clipped-large", "sam-large", noise)
        short = paired(rows, "accuracy", "clipped-large", "sam", noise)
        before, after = (lines[name, noise].accuracy.mean for name in ("sam-large", "clipped-large"))
        text = (
            f"{when}, SAM with rho {large:g} had {before:.1%} test accuracy, and {after:.1%} with clipping: {_points(gain)}. "
            f"That is {_points(short)} against SAM with rho {tuned:g}."
        )
        found.append(Finding(f"clipping, {'noisy' if noise else 'clean'}", gain.low > 0 and short.mean > -HARMLESS, text))
    return found


def _rho(rows: Rows, noise: float) -> tuple[float, float]:
    return next(cell.rho for cell in rows if cell.noise == noise)


def _points(difference: Estimate, sign: int = 1) -> str:
    mean = sign * difference.mean * 100
    plus = "" if sign < 0 else "+"
    return f"{mean:{plus}.1f} points" if difference.half is None else f"{mean:{plus}.1f} ± {difference.half * 100:.1f} points"
