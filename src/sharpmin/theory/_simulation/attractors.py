"""Fixed points and two-cycles of the map that one step of SAM is, and whether they attract."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sharpmin.core.extras import optional
from sharpmin.core.rho import finite

from .._problems.problem import Problem
from .run import METHODS, prepare

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .._problems.problem import Array
else:
    np = optional("numpy", extra="lab")

_NEWTON = 50
_MARGIN = 1e-5  # accuracy of a multiplier from differences


@dataclass(frozen=True)
class Attractor:
    """A fixed point or a two-cycle of x -> x - lr grad f(x + e).

    Attributes:
        points: its points in the order of the steps, shape (period, dim).
        multipliers: the eigenvalues of the Jacobian of `period` steps, the largest first, shape (dim,).
        gap: the mean of f - f* over its points.
        gradient: the mean of ||grad f|| over its points; if it is not 0, the attractor contains points that are not stationary.
    """

    points: Array
    multipliers: NDArray[Any]
    gap: float
    gradient: float

    @property
    def period(self) -> int:
        """1 for a fixed point, 2 for a two-cycle."""
        return len(self.points)

    @property
    def stable(self) -> bool | None:
        """Whether it attracts nearby points; None if the largest |multiplier| is 1, as along a curve of fixed points."""
        largest = float(abs(self.multipliers).max())
        return None if abs(largest - 1) <= _MARGIN else largest < 1


def attractors(
    problem: Problem, *, method: str = "sam", lr: float, rho: float, starts: Any, steps: int = 1000
) -> list[Attractor]:
    """Fixed points and two-cycles of SAM's step, found by Newton's method, with the multipliers that decide their stability.

    ```
    x+ = x - lr grad f(x + e),  e = rho g/||g|| (sam),  rho g (usam),  0 (gd),  g = grad f(x)
    ```
    From every start and from the point `steps` steps later, Newton's method looks for x with x+ = x, and with x++ = x. It also
    finds unstable ones, and may miss some. Derivatives are central differences, correct if grad f is smooth around the
    points. Points with g = 0 are left out for sam, whose step has no Jacobian there.

    Args:
        problem: from `problems()` or `own`; f is used, not its samples.
        method: gd, sam or usam.
        lr: the step size, > 0.
        rho: the radius, >= 0.
        starts: one start or several, as x0 of `simulate`.
        steps: the number of steps taken from every start.

    Returns:
        Every attractor once, by rising gap.

    Raises:
        ValueError: for another method, or numbers out of range.

    Source: SAM's points of rest that are no minima are the subject of Park et al., Sharpness-Aware Minimization Can Hallucinate
    Minimizers, 2025, arXiv:2509.21818, of which the abstract only was read.

    >>> from sharpmin import theory
    >>> trap = theory.problems()["trap"](theta=0.125, beta=2.0, rho=0.5)
    >>> found = theory.attractors(trap, lr=0.25, rho=0.5, starts=[0.2, -0.05])
    >>> [(a.period, a.stable, round(float(a.multipliers[0]), 6), round(a.gradient, 6)) for a in found]
    [(1, True, 0.5, 0.75)]
    """
    if method not in ("gd", "sam", "usam"):
        raise ValueError(f"attractors: method={method!r} must be gd, sam or usam, whose steps are not random")
    lr, rho = finite(lr, "lr", "attractors", low=0, strict=True), finite(rho, "rho", "attractors", low=0)
    run = prepare(problem, method, lr, rho, steps, starts, 0, None, (), False)
    x = run.x0
    move = _Step(problem, METHODS[method].ascent, lr, rho, scale=rho + float(np.abs(x).max()) or 1.0)
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(steps):
            x = move(x)
        found = [cycle for start in np.concatenate([x, run.x0]) for cycle in _from(move, start)]
    return sorted(_once(found, 1e-6 * move.scale), key=lambda a: a.gap)


@dataclass(frozen=True)
class _Step:
    problem: Problem
    ascent: str | None
    lr: float
    rho: float
    scale: float  # unit of length for the differences

    def __call__(self, x: Array, times: int = 1) -> Array:
        """`times` steps of every lane."""
        for _ in range(times):
            g = self.problem.gradient(x)
            size = self.problem.norm(g)
            scale = {None: 0.0 * size, "raw": self.rho + 0.0 * size, "unit": self.rho / np.where(size > 0, size, 1.0)}[
                self.ascent
            ]
            x = x - self.lr * self.problem.gradient(x + (scale if x.ndim == 1 else scale[:, None]) * g)
        return x

    def jacobian(self, x: Array, times: int) -> Array:
        """The Jacobian of some steps from one point, shape (dim, dim): a product over the steps, by central differences."""
        product, h = np.eye(len(x)), 1e-6 * self.scale
        for _ in range(times):
            moved = self.flat(np.concatenate([x + h * np.eye(len(x)), x - h * np.eye(len(x)), x[None]]), 1)
            product = (moved[: len(x)] - moved[len(x) : -1]).T / (2 * h) @ product
            x = moved[-1]
        return product

    def flat(self, points: Array, times: int) -> Array:
        """`times` steps of points of shape (lanes, dim), also if dim is 1."""
        dim = self.problem.dim
        return self(points if dim > 1 else points[:, 0], times).reshape(-1, dim)


def _from(move: _Step, start: Array) -> Iterator[Attractor]:
    """The fixed point and the two-cycle that Newton's method finds from one start, if any."""
    for period in (1, 2):
        x = np.atleast_1d(start)
        for _ in range(_NEWTON):
            residual, jacobian = move.flat(x[None], period)[0] - x, move.jacobian(x, period)
            if not (np.isfinite(residual).all() and np.isfinite(jacobian).all()):
                break
            if np.abs(residual).max() <= 1e-12 * move.scale:
                yield from _described(move, x, period)
                break
            slope = jacobian - np.eye(len(x))
            small = 1e-6 / max(1.0, float(np.abs(slope).max()))  # least squares: along a curve of fixed points x does not move
            x = x - np.linalg.lstsq(slope, residual, rcond=small)[0]


def _described(move: _Step, x: Array, period: int) -> Iterator[Attractor]:
    """The attractor; None for a fixed point found as a two-cycle, and for a point with g = 0, where sam has no Jacobian."""
    problem = move.problem
    points = np.concatenate([x[None], move.flat(x[None], 1)])[:period]
    lanes = points if problem.dim > 1 else points[:, 0]
    sizes = problem.norm(problem.gradient(lanes))
    if period == 2 and np.abs(points[1] - points[0]).max() <= 1e-6 * move.scale:
        return
    if move.ascent == "unit" and move.lr * sizes.min() <= 1e-13 * move.scale:
        return
    values = np.linalg.eigvals(move.jacobian(x, period))
    multipliers = values[np.argsort(-abs(values))]
    yield Attractor(points, multipliers, float(problem.gap(lanes).mean()), float(sizes.mean()))


def _once(found: list[Attractor], near: float) -> list[Attractor]:
    """Every attractor once, by whichever of its points it was found."""
    kept: list[Attractor] = []
    for new in found:
        if not any(_same(new, old, near) for old in kept):
            kept.append(new)
    return kept


def _same(a: Attractor, b: Attractor, near: float) -> bool:
    turned = (b.points, b.points[::-1])
    return a.period == b.period and any(float(np.abs(a.points - points).max()) <= near for points in turned)
