"""The worst case of N steps as a linear problem: the conditions that every run on a function of the class satisfies, exactly.

A run is described by the Gram matrix M of a few vectors and by the values F of f at x*, the iterates and the perturbed
points. With x* = 0 and f* = 0, points and gradients are combinations of these vectors. A function of the class through them
exists exactly if for all pairs i, j (Taylor, Hendrickx & Glineur, "Smooth strongly convex interpolation and exact worst-case
performance of first-order methods", Math. Programming 2017, arXiv:1502.05666), with d = x_i - x_j and h = g_i - g_j,

    f_i >= f_j + <g_j, d> + [ ||h||^2 / beta + mu ||d||^2 - 2 (mu/beta) <h, d> ] / (2 (1 - mu/beta)).

Normalized ascent is written with a unit vector e_t and a number u_t = ||g_t||: g_t = u_t e_t. So the conditions are linear in
(M, F), and their coefficients are polynomials in the norms u of degree at most 2 in each.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import permutations

Powers = tuple[int, ...]
Vector = dict[tuple[int, Powers], Fraction]  # (basis vector, powers of u): coefficient
Gram = dict[tuple[int, int, Powers], Fraction]  # entry i <= j of a symmetric matrix that multiplies M


@dataclass(frozen=True)
class Specification:
    """A method with its constants as exact rationals: mu < beta, and the start has f(x0) - f* <= delta."""

    method: str
    steps: int
    lr: Fraction
    rho: Fraction
    mu: Fraction
    beta: Fraction
    delta: Fraction

    @property
    def norms(self) -> int:
        """The number of gradient norms on which the conditions depend."""
        return self.steps if self.method == "sam" else 0


@dataclass(frozen=True)
class Row:
    """One condition: <gram, M> + sum of values times F <= limit; with equality for a unit vector, whose multiplier is free."""

    gram: Gram
    values: dict[int, int]
    limit: Fraction = Fraction(0)


@dataclass(frozen=True)
class Conditions:
    """All conditions that a run satisfies. F lists the values of f at x_0 ... x_N, then at y_0 ... y_(N-1); f* = 0 is left out.

    Attributes:
        setting: the method and its constants.
        size: the size of the Gram matrix.
        rows: the inequalities; the first is f(x0) - f* <= delta.
        units: the basis vectors of length 1.
        pairs: the two points that each row compares; -1 is x*.
        points: x*, x_0 ... x_N, y_0 ... y_(N-1) as combinations of the basis vectors.
        gradients: the gradients at these points, likewise.
    """

    setting: Specification
    size: int
    rows: list[Row]
    units: list[int]
    pairs: dict[tuple[int, int], int]
    points: list[Vector]
    gradients: list[Vector]


def plus(a: Vector, b: Vector, factor: Fraction = Fraction(1)) -> Vector:
    """The combination a + factor b."""
    total = dict(a)
    for key, value in b.items():
        total[key] = total.get(key, Fraction(0)) + factor * value
    return total


def inner(a: Vector, b: Vector) -> Gram:
    """The inner product <a, b> as a symmetric matrix that multiplies M."""
    total: Gram = {}
    for (i, p), left in a.items():
        for (j, q), right in b.items():
            key = (min(i, j), max(i, j), tuple(k + m for k, m in zip(p, q, strict=True)))
            total[key] = total.get(key, Fraction(0)) + (left * right if i == j else left * right / 2)
    return total


def combine(*terms: tuple[Fraction, Gram]) -> Gram:
    """The sum of factor times matrix, without zeros."""
    total: Gram = {}
    for factor, gram in terms:
        for key, value in gram.items():
            total[key] = total.get(key, Fraction(0)) + factor * value
    return {key: value for key, value in total.items() if value}


def power_of_two(square: Fraction) -> Fraction:
    """A power of two near the square root of `square`: a unit of length that makes the Gram matrix of order 1.

    >>> float(power_of_two(Fraction(200)))
    8.0
    """
    return Fraction(2) ** ((square.numerator.bit_length() - square.denominator.bit_length()) // 2)


def conditions(setting: Specification) -> Conditions:
    """The run in terms of the basis vectors, and all conditions that it satisfies."""
    s, steps, powers = setting, setting.steps, setting.norms
    none = (0,) * powers
    basis: list[int] = []

    def fresh(power: Powers = none, scale: Fraction = Fraction(1)) -> Vector:
        basis.append(len(basis))
        return {(basis[-1], power): scale}

    x = [fresh(scale=power_of_two(2 * s.delta / s.mu))]
    slope = power_of_two(2 * s.delta * s.beta)
    steep = slope + power_of_two((s.beta * s.rho) ** 2) if s.rho else slope
    growth = (
        max(Fraction(1), power_of_two((s.lr * s.beta * (1 + s.rho * s.beta) - 1) ** 2)) if s.method == "usam" else Fraction(1)
    )
    y: list[Vector] = []
    g: list[Vector] = []
    ascent: list[Vector] = []
    units = []
    for t in range(steps):
        if s.method == "sam":
            unit = fresh()
            units.append(basis[-1])
            g.append({(basis[-1], tuple(int(k == t) for k in range(powers))): Fraction(1)})
            y.append(plus(x[t], unit, s.rho))
        else:
            g.append(fresh(scale=slope * growth**t))
            y.append(plus(x[t], g[t], s.rho))
        ascent.append(g[t] if s.method == "gd" else fresh(scale=steep * growth**t))
        x.append(plus(x[t], ascent[t], -s.lr))
    g.append(fresh(scale=slope * growth**steps))
    points, gradients = [{}, *x], [{}, *g]
    if s.method != "gd":
        points, gradients = points + y, gradients + ascent
    rows = [Row({}, {0: 1}, s.delta)]
    pairs = {}
    for i, j in permutations(range(-1, len(points) - 1), 2):
        pairs[i, j] = len(rows)
        values = {k: v for k, v in ((i, -1), (j, 1)) if k >= 0}
        rows.append(Row(_difference(s, points, gradients, i + 1, j + 1), values))
    return Conditions(setting, len(basis), rows, units, pairs, points, gradients)


def _difference(s: Specification, points: list[Vector], gradients: list[Vector], i: int, j: int) -> Gram:
    """The lower bound on f_i - f_j that interpolation requires."""
    dx, dg = plus(points[i], points[j], Fraction(-1)), plus(gradients[i], gradients[j], Fraction(-1))
    ratio = s.mu / s.beta
    factor = 1 / (2 * (1 - ratio))
    return combine(
        (Fraction(1), inner(gradients[j], dx)),
        (factor / s.beta, inner(dg, dg)),
        (factor * s.mu, inner(dx, dx)),
        (-2 * factor * ratio, inner(dg, dx)),
    )
