"""Quadratics: constant rho has a two-cycle on them (statement C1), and they attain most upper bounds at lr = 1/beta."""

from __future__ import annotations

from collections.abc import Sequence

from sharpmin.core.rho import finite

from .dense import DiagonalQuadratic
from .hinge import Hinge, HingeProblem
from .problem import Problem
from .registry import problem


@problem("quadratic")
def quadratic(*, curvatures: Sequence[float]) -> Problem:
    """f(x) = sum_i lam_i x_i^2 / 2, diagonal; with one curvature a 1-D problem whose points have no coordinate axis.

    Raises:
        TypeError: unless the curvatures are a list of numbers.
        ValueError: unless every curvature is finite and > 0.

    >>> quadratic(curvatures=[2.0]).dim, quadratic(curvatures=[1.0, 4.0]).beta
    (1, 4.0)
    """
    values = curvatures.tolist() if hasattr(curvatures, "tolist") else curvatures
    if isinstance(values, (str, bytes)) or not isinstance(values, Sequence):
        raise TypeError(f"quadratic: curvatures={curvatures!r} must be a list of numbers, such as [2.0] or [1.0, 4.0]")
    if not values:
        raise ValueError(f"quadratic: curvatures={curvatures!r} must hold at least one number, such as [2.0]")
    lam = tuple(finite(c, f"curvatures[{i}]", "quadratic", low=0, strict=True) for i, c in enumerate(values))
    return HingeProblem("quadratic", (Hinge(b=lam[0]),)) if len(lam) == 1 else DiagonalQuadratic(lam)
