"""One representation of 1-D problems: per sample, a piecewise linear derivative as a sum of hinges.

`l'(x) = a + b x + sum_k c_k max(0, x - t_k)`. Nearly every worst case is one of these, and every constant of it (f*, beta,
mu, PL, sigma) is exact: extremes of piecewise linear and quadratic functions sit at the knots.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from sharpmin.core.extras import optional

from .problem import Problem

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .problem import Array
else:
    np = optional("numpy", extra="lab")


ROUNDING = 8 * 2.0**-52
"""A sum of hinges, or of their slopes, counts as 0 if it is below this share of the sum of |terms|: it is then rounding error,
whose sign a normalized step would turn into a displacement of rho, and which would tilt a flat end."""


def _total(terms: Iterable[float]) -> float:
    """The sum; 0 where the terms cancel up to rounding."""
    terms = list(terms)
    total = math.fsum(terms)
    return 0.0 if abs(total) < math.fsum(ROUNDING * abs(term) for term in terms) else total


@dataclass(frozen=True)
class Hinge:
    """The derivative `a + b x + sum_k c_k max(0, x - t_k)`; `+`, `-` and `*` by a number act on it as on a function.

    `hinges` holds the pairs (t_k, c_k), t ascending. Raises a `ValueError` if a number is not finite.

    >>> h = Hinge.through([(-1.0, -1.0), (1.0, 1.0)], left=0.0, right=0.0)   # clip(x, -1, 1)
    >>> [h(x) for x in (-5.0, 0.5, 7.0)]
    [-1.0, 0.5, 1.0]
    """

    a: float = 0.0
    b: float = 0.0
    hinges: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.a, self.b, *(v for pair in self.hinges for v in pair)))):
            raise ValueError(
                f"Hinge: a={self.a}, b={self.b}, hinges={list(self.hinges)}; every a, b, t and c must be a finite number"
            )

    @classmethod
    def through(cls, points: Sequence[tuple[float, float]], *, left: float, right: float) -> Hinge:
        """Piecewise linear through `points` (x ascending), with slopes `left` and `right` outside."""
        xs = [x for x, _ in points]
        if any(x >= y for x, y in pairwise(xs)):
            raise ValueError(f"Hinge.through: points must have strictly ascending x, got {xs}")
        inner = [(v - u) / (y - x) for (x, u), (y, v) in pairwise(points)]
        slopes = [left, *inner, right]
        jumps = tuple((x, after - before) for x, before, after in zip(xs, slopes, slopes[1:], strict=False))
        (x0, y0) = points[0]
        return cls(y0 - left * x0, left, tuple((t, c) for t, c in jumps if c != 0.0))

    def __call__(self, x: float) -> float:
        """The derivative at one point."""
        return _total([self.a, self.b * x, *(c * max(0.0, x - t) for t, c in self.hinges)])

    def flat(self) -> bool:
        """Whether the derivative vanishes on a whole interval."""
        knots = self.knots()
        edges = zip([*knots[:1], *knots], [*knots, *knots[-1:]], strict=True) if knots else [(0.0, 0.0)]
        pieces = zip(self.slopes(), edges, strict=True)
        return any(slope == 0.0 and self(low) == self(high) == 0.0 for slope, (low, high) in pieces)

    def value(self, x: float) -> float:
        """An antiderivative at one point."""
        return self.a * x + self.b * x * x / 2 + math.fsum(c * max(0.0, x - t) ** 2 / 2 for t, c in self.hinges)

    def __add__(self, other: Hinge) -> Hinge:
        return combine([(1.0, self), (1.0, other)])

    def __sub__(self, other: Hinge) -> Hinge:
        return combine([(1.0, self), (-1.0, other)])

    def slopes(self) -> list[float]:
        """The slopes of the derivative on the pieces between the knots, from left to right; one more than knots."""
        terms = [self.b, *(c for _, c in self.hinges)]
        return [_total(terms[:end]) for end in range(1, len(terms) + 1)]

    def knots(self) -> list[float]:
        """The points where the slope changes."""
        return [t for t, _ in self.hinges]

    def zeros(self) -> list[float]:
        """The points where the derivative is 0: crossings, and the end points of pieces on which it is 0."""
        knots, found = self.knots(), []
        edges = [-math.inf, *knots, math.inf]
        for slope, low, high in zip(self.slopes(), edges, edges[1:], strict=False):
            anchor = low if math.isfinite(low) else high if math.isfinite(high) else 0.0
            at = self(anchor)
            if slope == 0.0:
                found += [anchor] if at == 0.0 else []
            elif low <= (root := anchor - at / slope) <= high:
                found.append(root)
        return sorted(set(found))


def combine(terms: Iterable[tuple[float, Hinge]]) -> Hinge:
    """The weighted sum of derivatives; hinges at the same knot merge, and vanish if they cancel up to rounding."""
    terms = list(terms)
    at: dict[float, list[float]] = {}
    for weight, h in terms:
        for t, c in h.hinges:
            at.setdefault(t, []).append(weight * c)
    merged = ((t, _total(at[t])) for t in sorted(at))
    return Hinge(
        _total(weight * h.a for weight, h in terms),
        _total(weight * h.b for weight, h in terms),
        tuple((t, c) for t, c in merged if c != 0.0),
    )


@dataclass(frozen=True, repr=False)
class HingeProblem(Problem):
    """A 1-D problem called `name`: `components` has a `Hinge` per sample, `probabilities` a number; `dim` is 1.

    Raises:
        ValueError: if the probabilities are not positive with sum 1, or f is not bounded below.

    >>> f = HingeProblem("square", (Hinge(b=2.0),))
    >>> f.beta, f.mu, f.f_star, f.gradient(np.array([3.0]))
    (2.0, 2.0, 0.0, array([6.]))
    """

    name: str
    components: tuple[Hinge, ...]
    probabilities: tuple[float, ...] = (1.0,)
    dim: int = 1

    def __post_init__(self) -> None:
        p = self.probabilities
        if len(p) != len(self.components) or not min(p, default=0.0) > 0 or not abs(math.fsum(p) - 1) <= 1e-12:
            raise ValueError(f"{self.name}: probabilities={p} must be positive, one per sample, with sum 1")
        left, right = self.mean.slopes()[0], self.mean.slopes()[-1]
        edges = self.mean.knots() or [0.0]
        falls_left = left < 0 or (left == 0 and self.mean(edges[0]) > 0)
        falls_right = right < 0 or (right == 0 and self.mean(edges[-1]) < 0)
        if falls_left or falls_right:
            raise ValueError(
                f"{self.name}: f is not bounded below; its derivative must end <= 0 on the left and >= 0 on the right"
            )

    @cached_property
    def mean(self) -> Hinge:
        """f'."""
        return combine(zip(self.probabilities, self.components, strict=True))

    @property
    def beta(self) -> float:
        """The steepest slope of f'."""
        return max(abs(slope) for slope in self.mean.slopes())

    @property
    def mu(self) -> float:
        """The least slope of f', or 0."""
        return max(0.0, min(self.mean.slopes()))

    @cached_property
    def pl(self) -> float:
        """f'^2 / (2 (f - f*)) is monotone between knots and zeros of f', so its infimum is at one of them, or at an end."""
        h, ratios = self.mean, []
        edges = [-math.inf, *h.knots(), math.inf]
        for slope, low, high in zip(h.slopes(), edges, edges[1:], strict=False):
            points = [x for x in (low, high) if math.isfinite(x)] + [x for x in h.zeros() if low <= x <= high]
            gaps = [h.value(x) - self.least for x in points]
            at_minimum = [gap <= self._flat for gap in gaps]
            ratios += [h(x) ** 2 / (2 * gap) for x, gap, least in zip(points, gaps, at_minimum, strict=True) if not least]
            if slope > 0:
                ratios += [slope] * (any(at_minimum) or math.inf in (-low, high))
            elif math.inf in (-low, high) and not all(at_minimum):
                ratios.append(0.0)
        return min(ratios, default=math.inf)

    @property
    def beta_component(self) -> float:
        """The steepest slope of any sample."""
        return max(abs(slope) for h in self.components for slope in h.slopes())

    @property
    def beta_batch(self) -> float:
        """Root mean square over the samples of their steepest slopes."""
        slopes = [max(map(abs, h.slopes())) for h in self.components]
        return math.sqrt(math.fsum(p * s * s for p, s in zip(self.probabilities, slopes, strict=True)))

    @cached_property
    def sigma(self) -> float:
        """The largest root mean square deviation; convex between knots, so it is attained at a knot or is inf."""
        parts = [(p, combine([(1.0, h), (-1.0, self.mean)])) for p, h in zip(self.probabilities, self.components, strict=True)]
        scale = 1e-12 * self.beta_component
        if any(abs(h.slopes()[end]) > scale for _, h in parts for end in (0, -1)):
            return math.inf
        knots = sorted({t for _, h in parts for t in h.knots()}) or [0.0]
        return math.sqrt(max(math.fsum(p * h(t) ** 2 for p, h in parts) for t in knots))

    @cached_property
    def minimizers(self) -> list[float]:
        """The stationary points with the least value, ascending; the ends of a flat piece count as points."""
        return [x for x in self.mean.zeros() if self.mean.value(x) <= self.least + self._flat]

    @cached_property
    def least(self) -> float:
        """The minimum of the antiderivative; subtracting it makes f* = 0."""
        return min(self.mean.value(x) for x in self.mean.zeros())

    @cached_property
    def _flat(self) -> float:
        """Values that differ by at most this count as equal; relative to the values at knots and zeros."""
        points = [*self.mean.knots(), *self.mean.zeros()]
        return 1e-12 * max(abs(self.mean.value(x) - self.least) for x in points)

    @cached_property
    def resolution(self) -> float:
        """The rounding of a sum of hinges that cancel; none if f is one parabola around 0."""
        h = self.mean
        sizes = [
            abs(h.a * x) + abs(h.b) * x * x / 2 + math.fsum(abs(c) * max(0.0, x - t) ** 2 / 2 for t, c in h.hinges)
            for x in [*h.knots(), *h.zeros()]
        ]
        return 1e-14 * max(sizes)

    def value(self, x: Array) -> Array:
        """f, shape (lanes,); the constant of integration is chosen so that f* = 0."""
        a, b, t, c = self._mean_arrays
        return np.asarray(a[0] * x + b[0] * x * x / 2 + (np.maximum(x[..., None] - t[0], 0.0) ** 2 / 2) @ c[0] - self.least)

    def gradient(self, x: Array) -> Array:
        """f', shape (lanes,)."""
        a, b, t, c = self._mean_arrays
        return _derivative(x, a[0], b[0], t[0], c[0])

    def sample_gradient(self, x: Array, draw: Any) -> Array:
        """l' of the drawn sample, shape (lanes,)."""
        if len(self.components) == 1:
            return self.gradient(x)
        a, b, t, c = self._component_arrays
        i = draw[:, 0]
        return _derivative(x, a[i], b[i], t[i].T, c[i].T)

    def draw(self, u: Array) -> NDArray[np.int64]:
        """The index of the sample whose part of [0, 1) contains u."""
        edges = np.cumsum(np.asarray(self.probabilities))[:-1]
        return np.searchsorted(edges, u, side="right").astype(np.int64)

    @cached_property
    def _mean_arrays(self) -> tuple[Array, Array, Array, Array]:
        return _arrays([self.mean])

    @cached_property
    def _component_arrays(self) -> tuple[Array, Array, Array, Array]:
        return _arrays(self.components)


def _derivative(x: Array, a: Any, b: Any, t: Array, c: Array) -> Array:
    """a + b x + sum_k c_k max(0, x - t_k) over the first axis of t and c; 0 where the terms cancel up to rounding."""
    total = a + b * x
    size = abs(a) + abs(b * x)
    for knot, jump in zip(t, c, strict=True):
        above = np.maximum(x - knot, 0.0)
        total += jump * above
        size += abs(jump) * above
    return np.where(abs(total) < ROUNDING * size, 0.0, total)


def _arrays(hinges: Sequence[Hinge]) -> tuple[Array, Array, Array, Array]:
    """a, b of shape (samples,), t, c of shape (samples, knots), padded with c = 0."""
    width = max(len(h.hinges) for h in hinges)
    t, c = np.zeros((len(hinges), width)), np.zeros((len(hinges), width))
    for i, h in enumerate(hinges):
        for k, (knot, jump) in enumerate(h.hinges):
            t[i, k], c[i, k] = knot, jump
    return np.array([h.a for h in hinges]), np.array([h.b for h in hinges]), t, c
