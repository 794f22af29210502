"""A PL function on which constant rho holds SAM far from the valley of minimizers."""

from __future__ import annotations

from .._statements.assume import numbers, require
from .curved import CosineValley
from .registry import problem


@problem("pl-trap")
def pl_trap(*, mu: float, rho: float) -> CosineValley:
    """f(u, v) = mu (v - 3 L cos(u/L))^2 / 2 with L = rho/3.5: the ascent step leads over the bend to the floor of the valley.

    Raises:
        ValueError: unless mu, rho > 0.

    >>> pl_trap(mu=1.0, rho=3.5).pl
    1.0
    """
    numbers("pl-trap", {"mu": mu, "rho": rho})
    require(rho > 0, "pl-trap", f"rho={rho:g} must be > 0; with rho = 0 there is no trap")
    return CosineValley("pl-trap", float(mu), rho / 3.5)
