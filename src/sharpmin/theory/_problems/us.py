"""Two quadratic samples of different sharpness, on which m-USAM and SGD have different limits."""

from __future__ import annotations

from sharpmin.core.rho import finite

from .hinge import Hinge, HingeProblem
from .registry import problem


@problem("us")
def us(*, h1: float, h2: float) -> HingeProblem:
    """l_1 = (h1/2)(x - 1)^2 and l_2 = (h2/2)(x + 1)^2, each with probability 1/2; the optimum is (h1 - h2)/(h1 + h2).

    Raises:
        TypeError: unless h1 and h2 are numbers.
        ValueError: unless they are finite and > 0.

    >>> us(h1=1.0, h2=0.25).minimizers
    [0.6]
    """
    h1, h2 = finite(h1, "h1", "us", low=0, strict=True), finite(h2, "h2", "us", low=0, strict=True)
    return HingeProblem("us", (Hinge(-h1, h1), Hinge(h2, h2)), (0.5, 0.5))
