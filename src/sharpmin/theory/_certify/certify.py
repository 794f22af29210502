"""`certify`: the exact worst case of a few steps of GD, USAM or SAM, between a run and a proof."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from numbers import Rational
from typing import TYPE_CHECKING, Any

from sharpmin.core._numbers import finite, positive_integer

from .attain import Attained
from .conditions import Conditions, Specification, conditions, power_of_two
from .search import Leaf, Search, proved

if TYPE_CHECKING:
    from .._problems.problem import Problem
    from .solver import Array

LIMITS = {"gd": 6, "usam": 6, "sam": 3}
"""The largest N for each method: a cell has 4^N coefficients, an interpolant 2^(2N+2) faces."""


@dataclass(frozen=True, eq=False)
class Certificate:
    """attained <= worst case of f(x_N) - f* <= certified.

    Attributes:
        method: gd, usam or sam.
        steps: N.
        lr: the step size.
        rho: the radius; 0 for gd.
        kappa: beta / mu.
        beta: the smoothness.
        delta: f(x0) - f* is at most this.
        attained: f(x_N) - f* of a run: `simulate(problem, method=, lr=, rho=, steps=, x0=x0)` in double precision.
        bound: the proved bound as a rational number; None if the budget ended before any bound was proved.
        reached: whether the gap is within the tolerance.
        cells: how many cells of gradient norms were solved.
        seconds: the wall-clock time of the search.
        problem: the function of the class on which a run attains `attained`.
        x0: the start of that run.
    """

    method: str
    steps: int
    lr: float
    rho: float
    kappa: float
    beta: float
    delta: float
    attained: float
    bound: Fraction | None
    reached: bool
    cells: int
    seconds: float
    problem: Problem = field(repr=False)
    x0: Array = field(repr=False)
    _conditions: Conditions = field(repr=False)
    _leaves: tuple[Leaf, ...] = field(repr=False)
    _unit: Fraction = field(repr=False)

    @property
    def certified(self) -> float:
        """`bound` as a float, rounded up; inf if no bound was proved."""
        if self.bound is None:
            return math.inf
        nearest = float(self.bound)
        return nearest if Fraction(nearest) >= self.bound else math.nextafter(nearest, math.inf)

    @property
    def exact(self) -> bool:
        """Whether `certified` was proved in rational arithmetic; False only where it is inf."""
        return self.bound is not None

    def verify(self) -> Fraction:
        """Check the whole proof anew, in rational arithmetic and without a solver; returns the bound that it proves.

        Raises:
            ValueError: if a matrix is not positive definite, or the cells leave out some gradient norms.
        """
        return proved(self._conditions, self._leaves) * self._unit

    def __repr__(self) -> str:
        radius = "" if self.method == "gd" else f", rho={self.rho:g}"
        given = f"{self.method}, steps={self.steps}, lr={self.lr:g}{radius}, kappa={self.kappa:g}"
        given += "".join(f", {name}={value:g}" for name, value in (("beta", self.beta), ("delta", self.delta)) if value != 1)
        upper = "nothing proved" if self.bound is None else f"{self.certified:.7g}"
        short = "" if self.reached else ", tolerance not reached"
        return f"<Certificate {given}: [{self.attained:.7g}, {upper}], {self.cells} cells, {self.seconds:.1f} s{short}>"


def certify(
    method: str,
    *,
    steps: int,
    lr: float,
    kappa: float,
    rho: float | None = None,
    beta: float = 1.0,
    delta: float = 1.0,
    tolerance: float = 1e-3,
    seconds: float = 300.0,
    cells: int = 10_000,
    progress: Callable[[int, float, float], Any] | None = None,
) -> Certificate:
    """The worst case of f(x_N) - f* after N steps, over all mu-strongly convex, beta-smooth f and f(x0) - f* <= delta.

    ```
    max over f, x0 of f(x_N) - f*,      mu = beta / kappa,      any dimension
    gd  x+ = x - lr grad f(x)        usam, sam  x+ = x - lr grad f(y),   y = x + rho g (usam), x + rho g / ||g|| (sam)
    ```
    The upper end is proved: multipliers from a semidefinite solver are rounded to rationals and checked exactly, for every cell
    of gradient norms, so the accuracy of the solver does not matter. The lower end is a run of `simulate` on a function whose
    interpolation conditions were checked exactly; the run itself has the rounding of double precision. A float stands for the
    decimal number that Python prints for it: 0.1 is 1/10.

    Args:
        method: "gd", "usam" or "sam".
        steps: N, at most 6, for sam at most 3.
        lr: in (0, 2/beta).
        kappa: beta/mu, above 1.
        rho: the radius, for sam and usam.
        beta: smoothness.
        delta: the largest f(x0) - f* allowed.
        tolerance: stop when the two ends differ by at most this, in units of delta.
        seconds: stop after about this time; the result then has `reached` False and a wider bracket that is still valid.
        cells: stop after this many cells; unlike `seconds`, this makes the result reproducible.
        progress: called with the number of cells solved and both ends so far.

    Returns:
        A `Certificate`.

    Raises:
        MissingExtraError: without the extra `pep`.
        TypeError: for an argument that is not a number.
        ValueError: for a number outside its domain, or an unknown method.

    Source: the conditions are those of Taylor, Hendrickx & Glineur (Math. Programming, 2017, arXiv:1502.05666); cells, affine
    multipliers and the exact check are this project's.

    >>> from sharpmin import theory
    >>> c = theory.certify("gd", steps=1, lr=0.5, kappa=10)
    >>> round(c.attained, 6), round(c.certified, 6), c.exact  # (1 - lr mu)^2
    (0.9025, 0.9025, True)
    """
    began = time.monotonic()
    setting = _setting(method, steps, lr, kappa, rho, beta, delta)
    tolerance = finite(tolerance, "tolerance", "certify", low=0.0, strict=True)
    seconds = finite(seconds, "seconds", "certify", low=0.0, strict=True)
    cells = positive_integer(cells, "cells", "certify")
    length = power_of_two(setting.delta / setting.beta)
    small = conditions(_in_units(setting, length))
    attained = Attained(method, setting, small, length)
    height = float(setting.delta)

    def report(done: int, low: float, high: float) -> None:
        if progress is not None:
            progress(done, low * height, high * height)

    search = Search(small, attained, attained.gap / height)
    search.run(tolerance, seconds, cells, report)
    bounds = [leaf.bound for leaf in search.leaves]
    bound = None if math.inf in bounds else Fraction(max(bounds)) * setting.delta
    return Certificate(
        method, steps, float(lr), float(setting.rho), float(kappa), float(beta), height, attained.gap, bound,
        bound is not None and bound <= attained.gap + tolerance * height, search.cells, time.monotonic() - began,
        attained.problem, attained.x0, small, tuple(search.leaves), setting.delta,
    )  # fmt: skip


def _setting(method: str, steps: Any, lr: Any, kappa: Any, rho: Any, beta: Any, delta: Any) -> Specification:
    if method not in LIMITS:
        raise ValueError(f"certify: method={method!r} must be one of {', '.join(LIMITS)}")
    if positive_integer(steps, "steps", "certify") > LIMITS[method]:
        raise ValueError(f"certify: steps={steps}; for {method} at most {LIMITS[method]} steps can be certified")
    if (rho is None) != (method == "gd"):
        raise ValueError(f"certify: {method} {'needs rho' if rho is None else 'has no rho; leave it out'}")
    given = {"lr": lr, "kappa": kappa, "beta": beta, "delta": delta}
    exact = {name: _exact(value, name, strict=True) for name, value in given.items()}
    radius = Fraction(0) if rho is None else _exact(rho, "rho", strict=False)
    if exact["kappa"] <= 1:
        raise ValueError(f"certify: kappa={kappa}; it must be above 1. At 1, f is a quadratic: simulate it")
    if exact["lr"] * exact["beta"] >= 2:
        raise ValueError(f"certify: lr={lr} must be below 2/beta={2 / float(beta):g}")
    return Specification(method, steps, exact["lr"], radius, exact["beta"] / exact["kappa"], exact["beta"], exact["delta"])


def _exact(value: Any, name: str, *, strict: bool) -> Fraction:
    """The decimal number that Python prints for a float; integers and fractions as they are."""
    number = finite(value, name, "certify", low=0.0, strict=strict)
    return Fraction(value) if isinstance(value, Rational) else Fraction(repr(number))


def _in_units(s: Specification, length: Fraction) -> Specification:
    """The same problem with x in units of `length` and f in units of delta, so that the numbers are near 1."""
    curvature = length**2 / s.delta
    rho = s.rho / length if s.method == "sam" else s.rho / curvature
    method = s.method if s.rho else "gd"
    return replace(
        s, method=method, lr=s.lr / curvature, rho=rho, mu=s.mu * curvature, beta=s.beta * curvature, delta=Fraction(1)
    )
