"""Families of functions and random settings within the assumptions, on which upper bounds must hold."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from sharpmin.core.extras import optional

from .._problems.dense import DiagonalQuadratic, LogCosh, Noisy
from .._problems.hinge import Hinge, HingeProblem
from .._problems.problem import Problem
from .._problems.ridges import random_ridges
from .._problems.wedge_shape import wedge_shape
from .._simulation.simulate import simulate
from .cell import Cell
from .theorem import Theorem

if TYPE_CHECKING:
    import numpy as np
    from numpy.random import Generator
    from numpy.typing import NDArray

    from .._problems.problem import Array
else:
    np = optional("numpy", extra="lab")

HORIZONS = (1, 10, 100, 1000)


@dataclass(frozen=True)
class Draw:
    """One random problem with several settings, each run with `seeds` seeds.

    Attributes:
        problem: the function.
        x0: starts, shape (settings,) or (settings, dim).
        lr: step sizes, shape (settings,).
        rho: radii, shape (settings,).
        seeds: the number of seeds per setting; 1 if the method is deterministic.
    """

    problem: Problem
    x0: Array
    lr: Array
    rho: Array
    seeds: int = 1

    def run(self, method: str, steps: int, **options: Any) -> Any:
        """Run `simulate` on every setting and every seed."""
        s = self.seeds
        settings = {"lr": np.repeat(self.lr, s), "rho": np.repeat(self.rho, s), "x0": np.repeat(self.x0, s, axis=0)}
        seeds = np.tile(np.arange(s), len(self.lr)) + 1000 * np.repeat(np.arange(len(self.lr)), s)
        return simulate(self.problem, method=method, steps=steps, seeds=seeds, **{**settings, **options})

    def average(self, values: Array) -> tuple[Array, Array]:
        """Mean over seeds and its standard error, each of shape (settings,)."""
        table = np.asarray(values).reshape(len(self.lr), self.seeds)
        spread = table.std(axis=1, ddof=1) / np.sqrt(self.seeds) if self.seeds > 1 else np.zeros(len(table))
        return table.mean(axis=1), spread

    def gap(self) -> Array:
        """f(x0) - f*, shape (settings,)."""
        return self.problem.gap(self.x0)

    def compare(
        self, label: str, statistic: Array, bound: Callable[..., float], trivial: Array | None = None, **start: Array
    ) -> Iterator[Cell]:
        """One `<=` cell per setting: the mean over seeds of a per-lane statistic against `bound(rho=, lr=, ...)`.

        `start` holds further keywords of the bound, one value per setting, such as `distance`; by default `delta`.
        """
        mean, error = self.average(statistic)
        arrays = {"rho": self.rho, "lr": self.lr, **(start or {"delta": self.gap()})}
        for i in range(len(self.lr)):
            k = {name: float(values[i]) for name, values in arrays.items()}
            where = f"{self.problem.name}: {label}, lr {k['lr']:.3g}, rho {k['rho']:.3g}"
            known = None if trivial is None else float(trivial[i])
            yield Cell(where, float(mean[i]), "<=", bound(**k), float(error[i]), known, resolution=self.problem.resolution)

    def final_gaps(self, method: str, bound: Callable[..., float], horizons: Sequence[int] = HORIZONS) -> Iterator[Cell]:
        """E f(x_T) - f* against `bound(steps=, ...)` at several T; vacuous if no better than at T = 0."""
        run = self.run(method, max(horizons), record=horizons, means=False)
        for value, steps in zip(run.value.values, horizons, strict=True):
            gaps, at = value - self.problem.f_star, partial(bound, steps=steps)
            yield from self.compare(f"{method}, T {steps}", gaps, at, trivial=self.gap())

    def mean_squares(self, method: str, bound: Callable[..., float], horizons: Sequence[int] = (10, 300)) -> Iterator[Cell]:
        """mean E ||grad f||^2 against `bound(steps=, ...)`; vacuous if no better than 2 beta delta, which holds at T = 0."""
        for steps in horizons:
            squares = self.run(method, steps).mean_square_gradient.values
            known = 2 * self.problem.beta * self.gap()
            yield from self.compare(f"{method}, T {steps}", squares, partial(bound, steps=steps), trivial=known)


def random_problems(
    theorem: Theorem, kind: str, *, quick: bool, top: float = 1.0, seeds: int = 1, settings: int = 8
) -> Iterator[Draw]:
    """Random trials on a family.

    Args:
        theorem: the statement; it seeds the functions, which are the same for its mutants.
        kind: "strongly-convex", "convex" or "nonconvex".
        quick: fewer functions.
        top: lr goes up to `top / beta`.
        seeds: the number of seeds per setting; more than 1 makes every problem noisy.
        settings: the number of settings per problem.
    """
    rng = np.random.default_rng(zlib.crc32(theorem.id.encode()))
    for i, problem in enumerate(_family(kind, rng, 3 if quick else 12, noisy=seeds > 1)):
        lr = np.exp(rng.uniform(np.log(0.02), np.log(top), settings)) / problem.beta
        lr[0] = top / problem.beta
        rho = np.exp(rng.uniform(np.log(0.01), np.log(3.0), settings))
        near = (i + np.arange(settings)) % 2 == 1
        yield Draw(problem, _starts(rng, problem, np.where(near, problem.beta * lr * rho, 2.0), near), lr, rho, seeds)


def _starts(rng: Generator, problem: Problem, scale: Array, near: NDArray[np.bool_]) -> Array:
    """Normal points around 0 or, with `near`, around a minimizer, where SAM has cycles of size beta lr rho."""
    if problem.dim > 1:
        return rng.normal(size=(len(scale), problem.dim)) * scale[:, None]
    least = problem.minimizers[0] if isinstance(problem, HingeProblem) else 0.0
    return np.where(near, least, 0.0) + rng.normal(size=len(scale)) * scale


def _family(kind: str, rng: Generator, count: int, *, noisy: bool) -> Iterator[Problem]:
    """Hinge sums, alternating with quadratics and log-cosh, wedges, and ridges; if nonconvex, with ridges only."""
    for i in range(count):
        beta = float(np.exp(rng.uniform(-1.0, 1.0)))
        low = {"strongly-convex": float(rng.uniform(0.02, 0.9)), "convex": 0.0, "nonconvex": -1.0}[kind] * beta
        yield random_hinge(rng, low, beta, noise=float(rng.uniform(0.1, 1.0)) if noisy else 0.0)
        for problem in _smooth(kind, rng, low, beta)[i % 3]:
            yield Noisy(problem, _offsets(rng, problem.dim)) if noisy else problem


def _smooth(kind: str, rng: Generator, low: float, beta: float) -> tuple[list[Problem], ...]:
    ridges = random_ridges(rng, low, beta)
    if kind == "nonconvex":
        return [], [], [ridges]
    curvatures = rng.uniform(low, beta, 4)
    curvatures[:2] = max(low, 1e-6), beta
    wedge = wedge_shape(beta, low, max(low / beta, 0.02) * float(np.exp(rng.uniform(-1.0, 1.0))))
    return [DiagonalQuadratic(tuple(float(c) for c in curvatures)), LogCosh("log-cosh", 3, beta, low)], [wedge], [ridges]


def _offsets(rng: Generator, dim: int) -> tuple[tuple[float, ...], ...]:
    half = rng.normal(0.0, 0.5, (3, dim))
    return tuple(tuple(float(v) for v in row) for row in np.concatenate([half, -half]))


def random_hinge(rng: Generator, low: float, high: float, *, noise: float = 0.0) -> HingeProblem:
    """A random f' with slopes in [low, high], both reached, that points outwards; with noise, l'_+- = f' +- s.

    The noise s is piecewise linear and constant outside, so sigma is finite; the samples need not be convex.
    """
    knots = np.sort(rng.uniform(-3.0, 3.0, 5))
    slopes = rng.uniform(low, high, 6)
    slopes[1], slopes[3] = low, high
    slopes[0], slopes[-1] = abs(slopes[0]), abs(slopes[-1])
    heights = np.concatenate([[0.0], np.cumsum(slopes[1:-1] * np.diff(knots))])
    heights -= rng.uniform(heights.min(), heights.max())
    points = [(float(t), float(h)) for t, h in zip(knots, heights, strict=True)]
    f = Hinge.through(points, left=float(slopes[0]), right=float(slopes[-1]))
    if noise == 0.0:
        return HingeProblem("random hinges", (f,))
    at = np.sort(rng.uniform(-3.0, 3.0, 4))
    bumps = [(float(t), float(v)) for t, v in zip(at, rng.uniform(-noise, noise, 4), strict=True)]
    s = Hinge.through(bumps, left=0.0, right=0.0)
    return HingeProblem("noisy random hinges", (f + s, f - s), (0.5, 0.5))
