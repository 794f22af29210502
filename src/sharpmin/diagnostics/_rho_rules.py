"""Where rho has no effect, where a run would collapse, and a first value: rules, and what is left open.

The thresholds were chosen on three tasks and judged on three others: docs/rho.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ._rho_point import RhoPoint

LEFT = 0.9
"""Of the loss at the start of a short run: a run that ends above it has not begun to learn."""

SAME = 0.01
"""Of the loss: a rise L(w + e) - L(w) below it is no effect."""

USUAL = 0.05
"""The first value of the literature."""

LAG = 0.2
"""Of the progress of a short run with rho = 0: how much less the first value may make."""


@dataclass(frozen=True)
class Claims:
    """What is said of a grid.

    Attributes:
        no_effect: the largest radius, with all smaller ones of the grid, that does nothing measurable; None if none does so.
        collapse: the smallest radius at which the run would collapse; None if none would, or it cannot be told.
        first: the value to try first; `reason`: why.
        told: whether a collapse could be told.
        remarks: what cannot be told, and why.
    """

    no_effect: float | None
    collapse: float | None
    first: float
    reason: str
    told: bool
    remarks: tuple[str, ...]


_NO_RISE = "the step does not go by a closure, so the loss at w + e is not known, and nothing is said of no effect"


def end_of(losses: Sequence[float]) -> float:
    """The mean of the last quarter."""
    last = losses[-max(1, len(losses) // 4) :]
    return math.fsum(last) / len(last)


def claims(points: Sequence[RhoPoint], without: Sequence[float]) -> Claims:
    """The rules.

    Args:
        points: of the grid, the smallest first.
        without: the losses of a short run with rho = 0; none at the present weights.
    """
    remarks = [] if any(point.rise is not None for point in points) else [_NO_RISE]
    untold = _untold(without)
    remarks += [] if untold is None else [untold]
    collapse = _collapse(points, without, told=untold is None)
    first, reason = _first(points, without, told=untold is None)
    return Claims(_no_effect(points, run=bool(without)), collapse, first, reason, untold is None, tuple(remarks))


def _no_effect(points: Sequence[RhoPoint], *, run: bool) -> float | None:
    """As far up the grid as the rise stays small against the loss, over the same steps."""
    found = None
    for point in points:
        losses = point.losses[len(point.losses) // 2 if run else 0 :]
        if point.rise is None or not abs(point.rise) < SAME * abs(math.fsum(losses) / len(losses)):
            break
        found = point.rho
    return found


def _untold(without: Sequence[float]) -> str | None:
    """Why a collapse cannot be told, if that is so: where the run without SAM does not get away from its start either."""
    if not without:
        return "a collapse, and which value to try first, show along a short run only: give steps="
    start, plain = without[0], end_of(without)
    if 0 < plain < LEFT * start or plain <= 0 < start:
        return None
    return (
        f"with rho = 0 the loss went from {start:.3g} to {plain:.3g} in {len(without)} steps; it must fall by a tenth before a "
        "collapse or a first value can be told: take more steps, or an earlier moment of the run"
    )


def _collapse(points: Sequence[RhoPoint], without: Sequence[float], *, told: bool) -> float | None:
    """The smallest radius whose short run ends where it began, or in no number."""
    ended = [p.rho for p in points if not p.finite or (told and end_of(p.losses) >= LEFT * without[0])]
    return min(ended, default=None)


def _first(points: Sequence[RhoPoint], without: Sequence[float], *, told: bool) -> tuple[float, str]:
    """As far up the grid as the short run keeps most of the progress that it makes with rho = 0."""
    if not told:
        return USUAL, "the usual one; nothing here speaks for another"
    whole, found = without[0] - end_of(without), None
    for point in points:
        if not (point.finite and end_of(point.losses) - end_of(without) <= LAG * whole):
            break
        found = point.rho
    if found is None:
        return points[
            0
        ].rho, f"the smallest of the grid, although its run falls behind by over {LAG:.0%}; try smaller ones, too"
    return found, f"the largest whose short run keeps {1 - LAG:.0%} of the progress that it makes with rho = 0"
