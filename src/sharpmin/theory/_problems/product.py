"""(xy - 1)^2, the function of the paper's first figure."""

from __future__ import annotations

from .dense import ProductSquare
from .registry import problem


@problem("product")
def product() -> ProductSquare:
    """f(x, y) = (xy - 1)^2.

    >>> product().dim
    2
    """
    return ProductSquare()
