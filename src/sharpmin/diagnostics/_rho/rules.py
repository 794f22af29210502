"""Where rho has no effect, where a run would collapse, and a first value: rules, and what is left open.

The thresholds were chosen on three tasks and judged on three others: docs/rho.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .point import RhoPoint

FALL = 0.1
"""Of the loss at the start of a short run: how far it must fall with rho = 0 before anything is told."""

LEAST = 0.2
"""Of the progress of the short run with rho = 0: one that makes less has not left its start."""

LAG = 0.1
"""Of the same: how much less progress the first value may make, where it is above the usual one."""

SAME = 0.002
"""Of the loss: a rise L(w + e) - L(w) below it is hardly any effect."""

USUAL = 0.05
"""The first value of the literature."""


@dataclass(frozen=True)
class Claims:
    """What is said of a grid.

    Attributes:
        no_effect: the largest radius, with all smaller ones of the grid, that has hardly any effect, or None.
        collapse: the smallest radius whose short run does not leave its start, or None.
        first: the value to try first; `reason`: why.
        told: whether the test could tell: along a short run that gets away from its start with rho = 0.
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
    untold = _untold(without)
    if untold is not None:
        ended = min((point.rho for point in points if not point.finite), default=None)
        return Claims(None, ended, USUAL, "the usual one; nothing here speaks for another", False, (untold,))
    collapse = min((p.rho for p in points if not _progress(p, without) >= LEAST), default=None)
    first, reason = _first(points, without, collapse)
    remarks = () if any(point.rise is not None for point in points) else (_NO_RISE,)
    return Claims(_no_effect(points), collapse, first, reason, True, remarks)


def _progress(point: RhoPoint, without: Sequence[float]) -> float:
    """How far the loss has fallen, as a share of how far it has with rho = 0; nan where it is no number."""
    return (without[0] - end_of(point.losses)) / (without[0] - end_of(without))


def _no_effect(points: Sequence[RhoPoint]) -> float | None:
    """As far up the grid as the rise stays small against the loss, over the second half of the short run."""
    found = None
    for point in points:
        losses = point.losses[len(point.losses) // 2 :]
        if point.rise is None or not abs(point.rise) < SAME * abs(math.fsum(losses) / len(losses)):
            break
        found = point.rho
    return found


def _untold(without: Sequence[float]) -> str | None:
    """Why nothing can be told, if that is so: the run without SAM does not get away from its start either."""
    if not without:
        return "what a run would do shows along a short run only: give steps="
    start, plain = without[0], end_of(without)
    if start - plain >= FALL * abs(start) > 0:
        return None
    return (
        f"with rho = 0 the loss went from {start:.3g} to {plain:.3g} in {len(without)} steps; it must fall by a tenth before "
        "anything can be told: take more steps, or an earlier moment of the run"
    )


def _first(points: Sequence[RhoPoint], without: Sequence[float], collapse: float | None) -> tuple[float, str]:
    """The usual value, or what is above it as long as the short run keeps up; below it only where the usual one collapses."""
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
