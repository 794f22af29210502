"""The rules of `rho_range`: where rho has no effect, where a run collapses, and which value to try first.

The thresholds were chosen on three tasks and judged on three others: docs/rho.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .point import RhoPoint

FALL = 0.1
"""Share of the initial loss by which the short run with rho = 0 must fall before a claim is made."""

LEAST = 0.2
"""Share of the progress with rho = 0 below which a short run counts as collapsed."""

LAG = 0.1
"""Share of the progress with rho = 0 that a first value above the usual one may lose."""

SAME = 0.002
"""Share of the loss below which a rise L(w + e) - L(w) counts as no effect."""

USUAL = 0.05
"""The usual value of the literature."""


@dataclass(frozen=True)
class Claims:
    """What the rules say of a grid.

    Attributes:
        no_effect: the largest radius, with all smaller ones of the grid, that has hardly any effect, or None.
        collapse: the smallest radius whose short run does not leave its start, or None.
        first: the value to try first; `reason`: why.
        told: whether a collapse could be detected: only along a short run that makes progress with rho = 0.
        remarks: what is not claimed, and why.
    """

    no_effect: float | None
    collapse: float | None
    first: float
    reason: str
    told: bool
    remarks: tuple[str, ...]


_NO_RISE = "the step does not use a closure, so the loss at w + e is not known, and no effect cannot be told"


def end_of(losses: Sequence[float]) -> float:
    """The mean of the last quarter of the losses."""
    last = losses[-max(1, len(losses) // 4) :]
    return math.fsum(last) / len(last)


def claims(points: Sequence[RhoPoint], without: Sequence[float]) -> Claims:
    """Apply the rules.

    Args:
        points: of the grid, the smallest first.
        without: the losses of a short run with rho = 0; none at the present weights.
    """
    untold = _untold(without)
    if untold is not None:
        ended = min((point.rho for point in points if not point.finite), default=None)
        return Claims(None, ended, USUAL, "the usual one; nothing here speaks for another", False, (untold,))
    collapse = min((p.rho for p in points if not _progress(p, without) >= LEAST), default=None)
    first, reason = _first(points, without, collapse)
    remarks = () if any(point.rise is not None for point in points) else (_NO_RISE,)
    return Claims(_no_effect(points), collapse, first, reason, True, remarks)


def _progress(point: RhoPoint, without: Sequence[float]) -> float:
    """The fall of the loss over that with rho = 0; nan for losses that are not finite."""
    return (without[0] - end_of(point.losses)) / (without[0] - end_of(without))


def _no_effect(points: Sequence[RhoPoint]) -> float | None:
    """The largest radius up to which all rises are small against the loss, over the second half of the short run."""
    found = None
    for point in points:
        losses = point.losses[len(point.losses) // 2 :]
        if point.rise is None or not abs(point.rise) < SAME * abs(math.fsum(losses) / len(losses)):
            break
        found = point.rho
    return found


def _untold(without: Sequence[float]) -> str | None:
    """Why a collapse cannot be detected, or None: without a short run, or if the one with rho = 0 makes no progress."""
    if not without:
        return "what a run would do shows along a short run only: give steps="
    start, plain = without[0], end_of(without)
    if start - plain >= FALL * abs(start) > 0:
        return None
    return (
        f"with rho = 0 the loss went from {start:.3g} to {plain:.3g} in {len(without)} steps; it must fall by a tenth before "
        "a collapse can be detected: take more steps, or an earlier moment of the run"
    )


def _first(points: Sequence[RhoPoint], without: Sequence[float], collapse: float | None) -> tuple[float, str]:
    """The value to try first: the usual one, a larger one whose short run keeps up, or a smaller one if the usual collapses."""
    keeps = None
    for point in points:
        if not _progress(point, without) >= 1 - LAG:
            break
        keeps = point.rho
    usual = collapse is None or collapse > USUAL
    if usual and (keeps is None or keeps <= USUAL):
        return USUAL, f"the usual one; no larger one of the grid keeps {1 - LAG:.0%} of the progress made with rho = 0"
    if keeps is None:
        return points[0].rho, "the smallest of the grid, although its run falls behind; try smaller ones, too"
    return keeps, f"the largest whose short run keeps {1 - LAG:.0%} of the progress made with rho = 0"
