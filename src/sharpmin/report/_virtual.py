"""The virtual loss: the function whose derivative is the mean descent direction of SAM.

In one dimension a step of SAM is, on average, a step of gradient descent on

    V(x) = integral of  E l'(y; xi')  over x,    y = x + rho sign l'(x; xi),

with xi' = xi (m-SAM; deterministic SAM if there is one sample) or independent (n-SAM). SAM converges to a minimum of V, which
need not be a minimum of f.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sharpmin.core.extras import optional
from sharpmin.theory import HingeProblem, problems

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
else:
    np = optional("numpy", extra="lab")


@dataclass(frozen=True)
class Virtual:
    """f and V on a grid, V shifted to equal f at the optimum of f; and the minimum of V to which SAM converges."""

    problem: HingeProblem
    label: str
    rho: float
    x: Array
    value: Array
    loss: Array
    optimum: float
    rest: float


def direction(f: HingeProblem, x: Array, rho: float, *, independent: bool = False) -> Array:
    """The mean descent direction at x, summed over the samples exactly.

    Args:
        f: the problem.
        x: the points.
        rho: the radius.
        independent: whether the descent uses a sample independent of the ascent (n-SAM).
    """
    out = np.zeros_like(x)
    for i, weight in enumerate(f.probabilities):
        y = x + rho * np.sign(_sample(f, x, i))
        out += weight * (f.gradient(y) if independent else _sample(f, y, i))
    return out


def _sample(f: HingeProblem, x: Array, i: int) -> Array:
    return f.sample_gradient(x, np.full((len(x), 1), i, dtype=np.int64))


def integral(x: Array, slope: Array) -> Array:
    """The running integral by the trapezoidal rule, 0 at the first point."""
    pieces = np.diff(x) * (slope[1:] + slope[:-1]) / 2
    return np.concatenate([[0.0], np.cumsum(pieces)])


def virtual() -> tuple[Virtual, ...]:
    """TRAP (deterministic SAM), E1 (m-SAM) and E3 (m- and n-SAM, which agree there), all with rho = 1."""
    make, rho = problems(), 1.0
    return (
        _virtual(make["trap"](theta=0.125, beta=1.0, rho=rho), "TRAP, deterministic SAM", rho, (-2.4, 2.2), near=0.0),
        _virtual(make["e1"](beta=1.0, mu=0.1, rho=rho), "E1, m-SAM, around its trap", rho, (1.9, 4.1), near=3.0),
        _virtual(make["e3"](p=0.25, rho=rho), "E3, m-SAM", rho, (-2.4, 1.6), near=-0.5),
    )


def _virtual(f: object, label: str, rho: float, view: tuple[float, float], *, near: float, points: int = 2401) -> Virtual:
    """V, integrated on a grid that contains the optimum of f and cut to the range shown."""
    if not isinstance(f, HingeProblem):
        raise TypeError(f"{label}: a virtual loss needs a 1-D problem, got {f!r}")
    optimum = f.minimizers[0]
    x = np.linspace(min(view[0], optimum - 0.5), max(view[1], optimum + 0.5), points)
    slope = direction(f, x, rho)
    loss = integral(x, slope)
    loss -= np.interp(optimum, x, loss)
    rises = np.flatnonzero((slope[:-1] <= 0) & (slope[1:] > 0))  # where V has a local minimum
    rest = float(x[rises[np.argmin(abs(x[rises] - near))]])
    shown = (x >= view[0]) & (x <= view[1])
    return Virtual(f, label, rho, x[shown], f.value(x[shown]), loss[shown], optimum, rest)
