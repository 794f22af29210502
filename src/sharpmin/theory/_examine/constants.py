"""Attempts to refute the constants of a problem: random pairs of points, directions of curvature, and a local search."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sharpmin.core.extras import optional

from .._problems.hinge import HingeProblem
from .._problems.own import OwnProblem
from .._problems.problem import Problem
from .._simulation.oracle import uniforms

if TYPE_CHECKING:
    import numpy as np
    from numpy.random import Generator

    from .._problems.problem import Array
else:
    np = optional("numpy", extra="lab")

Gradient = Callable[["Array"], "Array"]
_WHOLE = 64  # up to this dimension the Hessian is formed; beyond, its extreme eigenvectors come from a Krylov space of 40
_DRAWS = 256


@dataclass(frozen=True)
class ClaimedConstant:
    """A claimed constant and the most extreme value that was found.

    Attributes:
        name: "beta", "mu", "pl", "sigma", "f_star", "beta_component", "convex", "gradient" or "residual".
        claimed: the claimed value; 1 for the residual.
        found: the most extreme value found: a lower bound on beta and sigma, an upper one on mu, pl and f*;
            for the residual, the largest share of the claimed bound on E ||grad l||^2.
        holds: whether `found` is compatible with the claim.
        points: where it was found: a pair of points for beta, mu, beta_component and convex, one point for the others.
        text: the finding in one line.
    """

    name: str
    claimed: float
    found: float
    holds: bool
    points: tuple[tuple[float, ...], ...]
    text: str


def constants(problem: Problem, starts: Array, *, reach: float, pairs: int, seed: int) -> tuple[ClaimedConstant, ...]:
    """Every constant that the problem claims, tested at points around the starts and along gradient descents from them."""
    rng = np.random.default_rng(seed)
    points = _points(problem, starts, reach, pairs, rng)
    return tuple(_all(problem, points, reach, rng))


def _all(problem: Problem, points: Array, reach: float, rng: Generator) -> Iterator[ClaimedConstant]:
    values = problem.value(points)
    yield _consistent(problem, points[:: max(1, len(points) // 20)], rng)
    x, y = _pairs(problem, problem.gradient, points, reach, rng)
    stretch, monotone = _ratios(problem, problem.gradient, x, y)
    yield _extreme("beta", problem.beta, stretch, x, y, upper=True, what="||grad f(x) - grad f(y)||/||x - y||")
    if problem.mu > 0:
        yield _extreme("mu", problem.mu, monotone, x, y, upper=False, what="<grad f(x) - grad f(y), x - y>/||x - y||^2")
    elif getattr(problem, "convex", False):
        yield _extreme("convex", 0.0, monotone, x, y, upper=False, what="<grad f(x) - grad f(y), x - y>/||x - y||^2")
    least = int(np.argmin(values))
    tolerance = problem.resolution + 1e-9 * max(1.0, abs(problem.f_star))
    yield _constant("f_star", problem.f_star, float(values[least]), values[least] >= problem.f_star - tolerance,
                    (points[least],), "f(x)")  # fmt: skip
    if problem.pl > 0:
        gaps = values - problem.f_star
        far = gaps > max(1e3 * problem.resolution, 1e-8 * float(gaps.max(initial=0.0)))
        ratio = np.where(far, problem.norm(problem.gradient(points)) ** 2 / np.where(far, 2 * gaps, 1.0), np.inf)
        at = int(np.argmin(ratio))
        holds = bool(ratio[at] >= problem.pl * (1 - 1e-6))
        yield _constant("pl", problem.pl, float(ratio[at]), holds, (points[at],), "||grad f(x)||^2/(2 (f(x) - f*))")
    yield from _of_samples(problem, points, reach, rng)


def _of_samples(problem: Problem, points: Array, reach: float, rng: Generator) -> Iterator[ClaimedConstant]:
    draws, weights, exact = sample_draws(problem)
    if len(draws) == 1:
        return
    some = points[:: max(1, len(points) // 60)]
    full = problem.gradient(some)
    slopes = np.array([problem.sample_gradient(some, np.repeat(d[None], len(some), axis=0)) for d in draws])
    sizes = np.sqrt(_mean_square(problem, slopes - full, weights, exact))
    at = int(np.argmax(sizes))
    holds = bool(sizes[at] <= problem.sigma * (1 + 1e-6))
    yield _constant("sigma", problem.sigma, float(sizes[at]), holds, (some[at],), "(E ||grad l(x; xi) - grad f(x)||^2)^(1/2)")
    if isinstance(problem, OwnProblem) and problem.claimed_residual is not None:
        found, place = _share(problem, problem.claimed_residual, some, _mean_square(problem, slopes, weights, exact))
        yield _constant("residual", 1.0, found, found <= 1 + 1e-6, (place,),
                        "E ||grad l(x; xi)||^2/(2 A (f(x) - f*) + B ||grad f(x)||^2 + C)")  # fmt: skip
    steep: list[tuple[float, Any, Any]] = []
    few = points[:: max(1, len(points) // 20)]
    for draw in draws[:16] if exact else draws[:4]:

        def slope(x: Array, draw: Any = draw) -> Array:
            return problem.sample_gradient(x, np.repeat(draw[None], len(x), axis=0))

        x, y = _pairs(problem, slope, few, reach, rng)
        stretch, _ = _ratios(problem, slope, x, y)
        k = int(np.argmax(stretch))
        steep.append((float(stretch[k]), x[k], y[k]))
    size, x, y = max(steep, key=lambda item: item[0])
    yield _extreme("beta_component", problem.beta_component, np.array([size]), x[None], y[None], upper=True,
                   what="||grad l(x; xi) - grad l(y; xi)||/||x - y||")  # fmt: skip


def _mean_square(problem: Problem, rows: Array, weights: Any, exact: bool) -> Array:
    """E ||row||^2 at every point; minus four standard errors where `rows` are only some of the possible draws."""
    squares = np.array([problem.norm(row) ** 2 for row in rows])
    error = 0.0 if exact else 4 * squares.std(axis=0, ddof=1) / math.sqrt(len(rows))
    return np.asarray(np.maximum(weights @ squares - error, 0.0))


def _share(problem: Problem, residual: tuple[float, float, float], points: Array, squares: Array) -> tuple[float, Any]:
    """The largest ratio of E ||grad l||^2 to the bound of `residual`, where it exceeds rounding; and its point."""
    a, b, c = residual
    gaps = np.maximum(problem.gap(points), 0.0) + problem.resolution
    allowed = 2 * a * gaps + b * problem.norm(problem.gradient(points)) ** 2 + c
    shares = np.divide(squares, allowed, out=np.full(len(points), np.inf), where=allowed > 0)
    shares = np.where(squares > 1e-16 * squares.max(), shares, 0.0)
    at = int(np.argmax(shares))
    return float(shares[at]), points[at]


def sample_draws(problem: Problem) -> tuple[Any, Any, bool]:
    """Draws of shape (count, batch), their weights, and whether these are all possible draws."""
    if isinstance(problem, HingeProblem):
        return np.arange(len(problem.components))[:, None], np.array(problem.probabilities), True
    if isinstance(problem, OwnProblem):
        if problem.samples <= _DRAWS:
            return np.arange(problem.samples)[:, None], np.full(problem.samples, 1 / problem.samples), True
    elif problem.sigma == 0:
        return np.zeros((1, problem.batch), dtype=np.int64), np.ones(1), True
    draws = problem.draw(uniforms([0], np.arange(_DRAWS), problem.batch)[:, 0])
    return draws, np.full(_DRAWS, 1 / _DRAWS), False


def _points(problem: Problem, starts: Array, reach: float, count: int, rng: Generator) -> Array:
    """The starts, points around them at several distances, and points along gradient descents from them."""
    spread = reach * np.exp(rng.uniform(-4.0, 1.0, count))
    center = starts[rng.integers(0, len(starts), count)]
    shift = rng.normal(size=center.shape)
    near = center + (spread if problem.dim == 1 else spread[:, None] / math.sqrt(problem.dim)) * shift
    path, x = [starts, near], np.concatenate([starts, near[: min(count, 8)]])
    lr = 1 / problem.beta if math.isfinite(problem.beta) and problem.beta > 0 else 0.0
    for step in range(200 if lr else 0):
        x = x - lr * problem.gradient(x)
        if step in (3, 20, 80, 199):
            path.append(x)
    found = np.concatenate(path)
    within = problem.norm(found) < 1e150  # beyond, squares overflow
    found = found[within]
    return np.asarray(found[np.isfinite(problem.value(found)) & (problem.norm(problem.gradient(found)) < 1e150)])


def _pairs(problem: Problem, gradient: Gradient, points: Array, reach: float, rng: Generator) -> tuple[Array, Array]:
    """Random pairs at all distances, pairs along extreme curvature, and a local search from the most extreme pairs."""
    shape = points.shape
    scale = reach * np.exp(rng.uniform(-7.0, 0.5, len(points)))
    x, y = points, points + _column(problem, scale) * _unit(problem, rng.normal(size=shape))
    xs, ys = [x, points[:-1]], [y, points[1:]]
    if problem.dim == 1:
        xs.append(points - 1e-3 * reach)
        ys.append(points + 1e-3 * reach)
    else:
        for point in points[rng.integers(0, len(points), 6)]:
            for direction in _curvatures(gradient, point, reach, rng):
                step = 1e-3 * reach * direction
                xs.append((point - step)[None])
                ys.append((point + step)[None])
    x, y = np.concatenate(xs), np.concatenate(ys)
    apart = problem.norm(x - y) > 1e-9 * reach
    x, y = x[apart], y[apart]
    stretch, monotone = _ratios(problem, gradient, x, y)
    for worst in (int(np.argmax(stretch)), int(np.argmin(monotone))):
        a, b = _climb(problem, gradient, x[worst], y[worst], reach, rng, upper=worst == int(np.argmax(stretch)))
        x, y = np.concatenate([x, a[None]]), np.concatenate([y, b[None]])
    return x, y


def _climb(
    problem: Problem, gradient: Gradient, x: Any, y: Any, reach: float, rng: Generator, *, upper: bool
) -> tuple[Any, Any]:
    """Shift the pair, and shorten it, while that makes the ratio more extreme."""
    for k in range(12):
        size = reach * 0.6**k
        move = _column(problem, np.full(24, size)) * _unit(problem, rng.normal(size=(24, *np.shape(x))))
        shorten = _column(problem, np.where(np.arange(24) % 2, 0.5, 1.0))
        a = np.concatenate([x[None], x + move])
        b = np.concatenate([y[None], x + move + shorten * (y - x)])
        stretch, monotone = _ratios(problem, gradient, a, b)
        best = int(np.argmax(stretch) if upper else np.argmin(monotone))
        x, y = a[best], b[best]
    return x, y


def _curvatures(gradient: Gradient, point: Array, reach: float, rng: Generator) -> Iterator[Array]:
    """The directions of largest |curvature| and of least curvature at a point, from differences of gradients."""
    dim, h = len(point), 1e-3 * reach

    def products(basis: Array) -> Array:
        steps = h * basis.T
        return np.asarray((gradient(point + steps) - gradient(point - steps)).T / (2 * h))

    if dim <= _WHOLE:
        basis = np.eye(dim)
        image = products(basis)
    else:  # Krylov: v, Hv, H^2 v, ... orthonormal
        vectors, images = [_normal(rng.normal(size=dim))], list[Any]()
        for _ in range(40):
            images.append(products(vectors[-1][:, None])[:, 0])
            rest = images[-1]
            for _ in range(2):
                rest = rest - np.array(vectors).T @ (np.array(vectors) @ rest)
            if np.linalg.norm(rest) < 1e-10 * max(1e-300, float(np.linalg.norm(images[-1]))):
                break
            vectors.append(_normal(rest))
        image = np.array(images).T
        basis = np.array(vectors[: len(images)]).T
    small = basis.T @ image
    if not np.isfinite(small).all():
        return
    curvatures, directions = np.linalg.eigh((small + small.T) / 2)
    for k in {int(np.argmax(np.abs(curvatures))), 0}:
        yield basis @ directions[:, k]


def _consistent(problem: Problem, points: Array, rng: Generator) -> ClaimedConstant:
    """Whether `gradient` is the gradient of `value`, tested by central differences along random directions."""
    direction = _unit(problem, rng.normal(size=points.shape))
    size = 1e-5 * np.maximum(1.0, problem.norm(points))
    step = _column(problem, size) * direction
    up, down = problem.value(points + step), problem.value(points - step)
    slope = (up - down) / (2 * size)
    product = problem.gradient(points) * direction
    inner = product if problem.dim == 1 else product.sum(axis=1)
    kink = problem.beta * size if math.isfinite(problem.beta) else 1e-3 * np.abs(slope)
    slack = 1e-5 * (1 + np.abs(slope)) + kink + 1e-14 * np.maximum(np.abs(up), 1.0) / size
    excess = np.nan_to_num(np.abs(slope - inner) - slack, nan=-np.inf)
    at = int(np.argmax(excess))
    text = f"<grad f(x), v> = {inner[at]:.6g}, the slope of f along v is {slope[at]:.6g}"
    return ClaimedConstant("gradient", float(slope[at]), float(inner[at]), bool(excess[at] <= 0), (_tuple(points[at]),), text)


def _ratios(problem: Problem, gradient: Gradient, x: Array, y: Array) -> tuple[Array, Array]:
    """||g(x) - g(y)||/||x - y|| and <g(x) - g(y), x - y>/||x - y||^2, each made less extreme by its rounding error."""
    gx, gy = gradient(x), gradient(y)
    distance = problem.norm(x - y)
    safe = np.where(distance > 0, distance, 1.0)
    product = (gx - gy) * (x - y)
    inner = product if problem.dim == 1 else product.sum(axis=1)
    rounding = 4e-16 * (problem.norm(gx) + problem.norm(gy)) * (1 + math.sqrt(problem.dim)) / safe
    stretch, monotone = problem.norm(gx - gy) / safe - rounding, inner / safe**2 + rounding
    told = (distance > 0) & np.isfinite(stretch) & np.isfinite(monotone)
    return np.where(told, stretch, -np.inf), np.where(told, monotone, np.inf)


def _extreme(name: str, claimed: float, ratios: Array, x: Array, y: Array, *, upper: bool, what: str) -> ClaimedConstant:
    at = int(np.argmax(ratios) if upper else np.argmin(ratios))
    found = float(ratios[at])
    slack = 1e-6 * (abs(claimed) if claimed else float(np.max(np.abs(ratios[np.isfinite(ratios)]), initial=0.0)))
    holds = found <= claimed + slack if upper else found >= claimed - slack
    return _constant(name, claimed, found, holds, (x[at], y[at]), what)


def _constant(name: str, claimed: float, found: float, holds: Any, points: tuple[Any, ...], what: str) -> ClaimedConstant:
    places = tuple(_tuple(point) for point in points)
    where = " and ".join(_short(place) for place in places)
    return ClaimedConstant(name, float(claimed), found, bool(holds), places, f"{what} = {found:.6g} at {where}")


def _tuple(point: Any) -> tuple[float, ...]:
    return tuple(float(v) for v in np.atleast_1d(point))


def _short(place: tuple[float, ...]) -> str:
    shown = ", ".join(f"{v:.6g}" for v in place[:4])
    return shown if len(place) == 1 else f"({shown}{', ...' if len(place) > 4 else ''})"


def _column(problem: Problem, v: Any) -> Any:
    return v if problem.dim == 1 else v[:, None]


def _unit(problem: Problem, v: Any) -> Any:
    size = problem.norm(v)
    return v / _column(problem, np.where(size > 0, size, 1.0))


def _normal(v: Any) -> Any:
    return v / np.linalg.norm(v)
