"""The result of `rho_range` as text: a table of 80 columns, and sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .point import RhoPoint
from .rules import Claims, end_of

HEADER = ("rho", "cancelled, % (95 %)", "rise", "cosine", "e lies most in", "loss")


def table(points: Sequence[RhoPoint], *, run: bool) -> list[str]:
    """One line a radius, under a header."""
    rows = [HEADER, *(_row(point, run=run) for point in points)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(HEADER))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _row(point: RhoPoint, *, run: bool) -> tuple[str, ...]:
    loss = end_of(point.losses) if run else math.fsum(point.losses) / len(point.losses)
    return (f"{point.rho:g}", _cancelled(point), _number(point.rise), _number(point.cosine), _layer(point), _number(loss))


def _cancelled(point: RhoPoint) -> str:
    if point.cancelled is None:
        return "not resolved"
    if point.interval is None:
        return f"{100 * point.cancelled:.0f}"
    low, high = point.interval
    return f"{100 * point.cancelled:.0f} ({100 * low:.0f} to {100 * high:.0f})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _layer(point: RhoPoint) -> str:
    if not point.shares:
        return "-"
    name = max(point.shares, key=lambda key: point.shares[key])
    short = name if len(name) <= 20 else f"...{name[-17:]}"
    return f"{short} {100 * point.shares[name]:.0f} %"


def sentences(found: Claims, grid: Sequence[float], steps: int, *, run: bool) -> list[str]:
    """The claims and remarks as sentences."""
    where = f"along a run of {steps} steps" if run else f"at the present weights, {steps} batches"
    lines = [f"Tried {where}: rho from {grid[0]:g} to {grid[-1]:g}."]
    if found.no_effect is not None:
        lines.append(f"Up to rho = {found.no_effect:g} hardly any effect: the loss at w + e is within 0.2 % of that at w.")
    if found.collapse is not None:
        lines.append(
            f"From rho = {found.collapse:g} on the short run does not leave its start: a collapse, or a late start. "
            f"{_COLLAPSES}"
        )
    elif found.told:
        lines.append(f"No rho of the grid kept the short run at its start. {_COLLAPSES}")
    lines.append(f"First value to try: {found.first:g} ({found.reason}).")
    if found.told:
        lines.append(_FIRSTS)
    return [*lines, *(f"Note: {remark}." for remark in found.remarks)]


_COLLAPSES = "Of 18 such tests 11 were right about the whole run's collapse, 6 one step of the grid too early, and 1 missed it."
_FIRSTS = "On the three tasks that this rule was not made on, its first value was no better than 0.05 (docs/rho.md)."
"""Results of the calibration; `benchmarks/rho_range.py`."""
