"""Quadratics: the two-cycle of constant rho lives here (statement C1), and most upper bounds at lr = 1/beta are attained."""

from __future__ import annotations

from collections.abc import Sequence

from .._dense import DiagonalQuadratic
from .._hinge import Hinge, HingeProblem
from .._problem import Problem
from ._registry import problem


@problem("quadratic")
def quadratic(*, curvatures: Sequence[float]) -> Problem:
    """f(x) = sum_i lam_i x_i^2 / 2, diagonal; with one curvature a 1-D problem whose points have no coordinate axis.

    Raises:
        ValueError: unless every curvature is finite and > 0.

    >>> quadratic(curvatures=[2.0]).dim, quadratic(curvatures=[1.0, 4.0]).beta
    (1, 4.0)
    """
    lam = tuple(float(c) for c in curvatures)
    if not lam or any(not 0 < c < float("inf") for c in lam):
        raise ValueError(f"quadratic: curvatures={list(curvatures)} must be finite and > 0, at least one")
    return HingeProblem("quadratic", (Hinge(b=lam[0]),)) if len(lam) == 1 else DiagonalQuadratic(lam)
