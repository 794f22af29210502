"""Polynomials in the gradient norms on a box, in Bernstein form: an inequality between coefficients holds on the whole box."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from math import comb

from .conditions import Powers

Interval = tuple[Fraction, Fraction]
Cell = tuple[Interval, ...]
Weights = list[dict[tuple[int, Powers], Fraction]]


def weights(cell: Cell) -> Weights:
    """Weights that turn multipliers at the corners of a cell and powers of u into Bernstein coefficients of their products.

    A multiplier is affine in each norm between its values at the 2^N corners; a condition is quadratic in each norm. Their
    product is cubic in each, with 4^N Bernstein coefficients. Entry `a` of the result maps (corner, powers) to the weight with
    which the multiplier at the corner, times the coefficient of that power of u, enters Bernstein coefficient `a`.
    """
    axes = [_axis(low, high) for low, high in cell]
    result: Weights = []
    for index in product(range(4), repeat=len(cell)):
        entry: dict[tuple[int, Powers], Fraction] = {}
        for corner, bits in enumerate(product(range(2), repeat=len(cell))):
            for powers in product(range(3), repeat=len(cell)):
                weight = Fraction(1)
                for axis, k, bit, power in zip(axes, index, bits, powers, strict=True):
                    weight *= axis.get((k, bit, power), Fraction(0))
                if weight:
                    entry[corner, powers] = weight
        result.append(entry)
    return result


def at(norms: tuple[Fraction, ...]) -> Weights:
    """The weights at one point, which is a cell of width 0."""
    entry = {}
    for powers in product(range(3), repeat=len(norms)):
        weight = Fraction(1)
        for u, power in zip(norms, powers, strict=True):
            weight *= u**power
        entry[0, powers] = weight
    return [entry]


def _axis(low: Fraction, high: Fraction) -> dict[tuple[int, int, int], Fraction]:
    """(coefficient of the cubic, end of the interval, power of u): weight. The products are 1 - s or s times 1, u or u^2."""
    one = Fraction(1)
    quadratic = {0: (one, one, one), 1: (low, (low + high) / 2, high), 2: (low * low, low * high, high * high)}
    return {
        (bit + j, bit, power): coefficients[j] * comb(2, j) / Fraction(comb(3, bit + j))
        for power, coefficients in quadratic.items()
        for bit in range(2)
        for j in range(3)
        if coefficients[j]
    }
