"""TRAP that is infinitely smooth: a cosine on which constant rho holds SAM on the flank."""

from __future__ import annotations

import math

from .._statements.assume import numbers, require
from .curved import CosineWave
from .registry import problem


@problem("trap-smooth")
def trap_smooth(*, beta: float, rho: float) -> CosineWave:
    """f(x) = -(beta/w^2) cos(w x) + beta/w^2, w = 3 pi/(2 rho): SAM from (-4 rho/3, -2 rho/3) ends at -rho, where f' > 0.

    Raises:
        ValueError: unless beta, rho > 0.

    >>> import numpy as np
    >>> f = trap_smooth(beta=2.0, rho=0.5)
    >>> f.gradient(np.array([-0.5, 0.0])).round(6)
    array([0.212207, 0.      ])
    """
    numbers("trap-smooth", {"beta": beta, "rho": rho})
    require(rho > 0, "trap-smooth", f"rho={rho:g} must be > 0; with rho = 0 there is no trap")
    return CosineWave("trap-smooth", float(beta), 3 * math.pi / (2 * rho))
