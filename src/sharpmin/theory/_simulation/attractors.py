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
_MARGIN = 1e-5  # of a multiplier from differences


@dataclass(frozen=True)
class Attractor:
    """A fixed point or a two-cycle of x -> x - lr grad f(x + e).

    Attributes:
        points: its points in the order of the steps, shape (period, dim).
        multipliers: the eigenvalues of the Jacobian of `period` steps, the largest first, shape (dim,).
        gap: the mean of f - f* over its points.
        gradient: the mean of ||grad f|| over its points; where it is not 0, the method rests or jumps at no stationary point.
    """

    points: Array
    multipliers: NDArray[Any]
    gap: float
    gradient: float

    @property
    def period(self) -> int:
        """1 or 2."""
        return len(self.points)

    @property
    def stable(self) -> bool | None:
        """Whether it attracts what is nearby; None if the largest multiplier is 1 in size, as along a curve of fixed points."""
        largest = float(abs(self.multipliers).max())
        return None if abs(largest - 1) <= _MARGIN else largest < 1


def attractors(
    problem: Problem, *, method: str = "sam", lr: float, rho: float, starts: Any, steps: int = 1000
) -> list[Attractor]:
    """Fixed points and two-cycles of SAM's step, found from starts, with the Jacobian that tells whether they attract.

    ```
    x+ = x - lr grad f(x + e),  e = rho g/||g|| (sam),  rho g (usam),  0 (gd),  g = grad f(x)
    ```
    From every start and from where `steps` steps lead, Newton's method looks for x with x+ = x, and with x++ = x. So unstable
    ones are found too, and none is found for sure. Derivatives are central differences, right where grad f is smooth around
    the points. Points with g = 0 are left out for sam, whose step has no Jacobian there.

    Args:
        problem: from `problems()` or `own`; f is used, not its samples.
        method: gd, sam or usam.
        lr: the step size, > 0.
        rho: the radius, >= 0.
        starts: as x0 of `simulate`.
        steps: how far every start is followed.

    Returns:
        Each once, by rising gap.

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
    scale: float  # a length against which others are small

    def __call__(self, x: Array, times: int = 1) -> Array:
        """Steps of every lane."""
        for _ in range(times):
            g = self.problem.gradient(x)
            size = self.problem.norm(g)
            scale = {None: 0.0 * size, "raw": self.rho + 0.0 * size, "unit": self.rho / np.where(size > 0, size, 1.0)}[
                self.ascent
            ]
            x = x - self.lr * self.problem.gradient(x + (scale if x.ndim == 1 else scale[:, None]) * g)
        return x

    def jacobian(self, x: Array, times: int) -> Array:
        """Of some steps from one point, shape (dim, dim): the product of those of its steps, each by central differences."""
        product, h = np.eye(len(x)), 1e-6 * self.scale
        for _ in range(times):
            moved = self.flat(np.concatenate([x + h * np.eye(len(x)), x - h * np.eye(len(x)), x[None]]), 1)
            product = (moved[: len(x)] - moved[len(x) : -1]).T / (2 * h) @ product
            x = moved[-1]
        return product

    def flat(self, points: Array, times: int) -> Array:
        """Steps of points of shape (lanes, dim), also where dim is 1."""
        dim = self.problem.dim
        return self(points if dim > 1 else points[:, 0], times).reshape(-1, dim)


def _from(move: _Step, start: Array) -> Iterator[Attractor]:
    """What Newton's method reaches from one start: a fixed point, a two-cycle."""
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
            small = 1e-6 / max(1.0, float(np.abs(slope).max()))  # along a curve of fixed points x stays where it is
            x = x - np.linalg.lstsq(slope, residual, rcond=small)[0]


def _described(move: _Step, x: Array, period: int) -> Iterator[Attractor]:
    """The attractor, unless it is a fixed point found as a two-cycle, or a point with g = 0, where sam has no Jacobian."""
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
    """Each once, whichever of its points it was found at."""
    kept: list[Attractor] = []
    for new in found:
        if not any(_same(new, old, near) for old in kept):
            kept.append(new)
    return kept


def _same(a: Attractor, b: Attractor, near: float) -> bool:
    turned = (b.points, b.points[::-1])
    return a.period == b.period and any(float(np.abs(a.points - points).max()) <= near for points in turned)
