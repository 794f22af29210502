"""Certificates: proofs that a tampered multiplier breaks, runs that attain, and the worst cases known otherwise."""

import dataclasses
import math
from fractions import Fraction
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sharpmin import theory
from sharpmin.theory._certify.cells import at, weights
from sharpmin.theory._certify.conditions import Specification, conditions, inner
from sharpmin.theory._certify.exact import positive_definite
from sharpmin.theory._certify.interpolant import Interpolant
from sharpmin.theory._certify.search import Leaf, halves, proved


@pytest.fixture(scope="module")
def step():
    """One step whose worst case is no quadratic."""
    return theory.certify("sam", steps=1, lr=0.9, rho=2.0, kappa=10)


def replayed(c):
    rho = None if c.method == "gd" else c.rho
    run = theory.simulate(c.problem, method=c.method, lr=c.lr, rho=rho, steps=c.steps, x0=c.x0)
    return float(c.problem.gap(run.x_final.values)[0])


@pytest.mark.parametrize(
    ("steps", "kappa", "rho", "lr", "low", "high"),
    [
        (1, 10, 0.1, 0.5, ".90038", ".90039"),
        (1, 10, 0.5, 0.5, ".89191", ".89211"),
        (1, 10, 0.5, 1.0, ".7980", ".8063"),
        (1, 10, 2.0, 0.9, "1.7471", "1.7480"),
        (1, 100, 2.0, 0.9, "2.3000", "2.3010"),
        (1, 2, 2.0, 0.9, "1.6190", "1.6200"),
        (2, 10, 0.1, 0.5, ".81058", ".81060"),
        (2, 10, 0.5, 0.5, ".79495", ".79525"),
        (2, 10, 0.5, 0.25, ".8913", ".8932"),
        (2, 100, 2.0, 0.9, "2.4846", "2.5062"),
    ],
)
def test_it_meets_the_brackets_found_by_another_relaxation(steps, kappa, rho, lr, low, high):
    tolerance = 1e-3 if steps == 1 else 5e-3
    c = theory.certify("sam", steps=steps, lr=lr, rho=rho, kappa=kappa, tolerance=tolerance)
    half = 0.5 * 10.0 ** -len(high.split(".")[1])  # the brackets are rounded
    assert c.attained <= float(high) + half
    assert c.certified >= float(low) - half
    assert c.reached
    assert 0 <= c.certified - c.attained <= tolerance
    assert c.verify() == c.bound
    assert replayed(c) == c.attained
    assert c.problem.gap(c.x0[None])[0] <= 1.0


@pytest.mark.parametrize(("steps", "lr", "kappa"), [(1, 0.5, 10), (3, 1.9, 4), (5, 1.3, 2.5), (2, 1e-3, 100)])
def test_gradient_descent_has_the_known_rate(steps, lr, kappa):
    """max over mu, beta of (1 - lr lam)^(2N), for all three measures: Taylor, Hendrickx & Glineur, 2018."""
    rate = max((1 - lr / kappa) ** 2, (1 - lr) ** 2) ** steps
    c = theory.certify("gd", steps=steps, lr=lr, kappa=kappa)
    assert (c.attained, c.certified) == pytest.approx((rate, rate), abs=2e-6)
    assert c.attained - 1e-12 <= rate <= c.certified


@pytest.mark.parametrize(
    ("steps", "lr", "rho", "kappa", "beta", "delta"),
    [
        (1, 0.8, 0.5, 10, 1, 1),
        (3, 0.8, 0.5, 10, 1, 1),
        (3, 0.8, 5.0, 10, 1, 1),  # grows to 3010.936
        (2, 0.2, 1.5, 4, 2.0, 3.0),
        (4, 1.2, 0.0, 3, 1, 0.01),
        (1, 0.001, 1e-3, 5, 1e3, 1e-3),
    ],
)
def test_without_normalization_it_is_u4(steps, lr, rho, kappa, beta, delta):
    c = theory.certify("usam", steps=steps, lr=lr, rho=rho, kappa=kappa, beta=beta, delta=delta)
    exact = theory.theorems()["u4"].bound(beta=float(beta), mu=beta / kappa, rho=rho, lr=lr, steps=steps, delta=float(delta))
    assert c.certified == pytest.approx(exact, rel=3e-5)
    assert c.attained * (1 - 1e-12) <= exact <= c.certified


@pytest.mark.parametrize("rho", [0.0, 0.3])
def test_units_do_not_matter(rho):
    """x by a, f by b: lr by a^2/b, beta by b/a^2, rho by a."""
    a, b = 8.0, 100.0
    plain = theory.certify("sam", steps=1, lr=0.7, rho=rho, kappa=5)
    scaled = theory.certify("sam", steps=1, lr=0.7 * a * a / b, rho=a * rho, kappa=5, beta=b / (a * a), delta=b)
    for one, other in ((plain, scaled), (scaled, plain)):
        factor = b if other is scaled else 1 / b
        assert one.attained * factor <= other.certified


def test_no_run_on_a_random_function_is_above(step):
    """Hinge sums and log-cosh of the class, from many starts."""
    rng = np.random.default_rng(3)
    worst = 0.0
    for f in (theory.problems()["quadratic"](curvatures=[0.1, 1.0]), theory.problems()["logcosh"](dim=2, beta=1.0, mu=0.1)):
        x = rng.normal(size=(4000, 2))
        x *= (rng.uniform(0, 4, size=4000) / np.sqrt((x**2).sum(axis=1)))[:, None]
        x = x[f.gap(x) <= 1]
        run = theory.simulate(f, method="sam", lr=step.lr, rho=step.rho, steps=1, x0=x)
        worst = max(worst, float(f.gap(run.x_final.values).max()))
    assert 1.5 < worst <= step.certified


def test_a_worst_case_that_is_no_quadratic(step):
    """Its function is of the class by exact arithmetic, and worse than 1.6198, the best quadratic."""
    f = step.problem
    assert isinstance(f, Interpolant)
    assert step.attained > 1.74
    assert f.violation(Fraction(1, 10), Fraction(1)) <= 0
    assert f.violation(Fraction(11, 100), Fraction(1)) > 0
    assert f.violation(Fraction(1, 10), Fraction(99, 100)) > 0
    np.testing.assert_allclose(f.gradient(f.points), f.gradients, atol=1e-9)
    np.testing.assert_allclose(f.value(f.points), f.values, atol=1e-9)


def test_the_interpolant_has_the_curvature_of_its_class(step):
    """Between any two points, the inequality that defines the class; and the gradient is that of the value."""
    f, rng = step.problem, np.random.default_rng(0)
    x, y = 3 * rng.normal(size=(2, 500, f.dim))
    dx, dg = x - y, f.gradient(x) - f.gradient(y)
    mixed, beta, mu = (dx * dg).sum(axis=1), f.beta, f.mu
    assert (mixed * (beta + mu) >= (dg**2).sum(axis=1) + beta * mu * (dx**2).sum(axis=1) - 1e-9).all()
    h, direction = 1e-5, rng.normal(size=x.shape)
    slope = (f.value(x + h * direction) - f.value(x - h * direction)) / (2 * h)
    np.testing.assert_allclose(slope, (f.gradient(x) * direction).sum(axis=1), atol=1e-6)


def test_a_proof_breaks_where_it_is_touched(step):
    """Refused: multipliers lowered by 1 %, a smaller bound, a missing or smaller part, a cell that the proof is not for."""
    leaf = max(step._leaves, key=lambda part: part.bound)
    proof = leaf.proof

    def with_proof(**changes):
        return [Leaf(leaf.cell, dataclasses.replace(proof, **changes)) if part is leaf else part for part in step._leaves]

    lower = tuple(tuple(value * 99 // 100 for value in corner) for corner in proof.corners)
    with pytest.raises(ValueError, match="the values of f must cancel"):
        proved(step._conditions, with_proof(corners=lower))
    with pytest.raises(ValueError, match="the multipliers of one cell prove no bound"):
        proved(step._conditions, with_proof(units=tuple((row[0] * 99 // 100 - 2**34,) for row in proof.units)))
    with pytest.raises(ValueError, match="cover"):
        proved(step._conditions, [part for part in step._leaves if part is not leaf])
    ((low, high),) = leaf.cell
    with pytest.raises(ValueError, match="cover"):
        proved(step._conditions, [Leaf(((low, (low + high) / 2),), proof) if part is leaf else part for part in step._leaves])
    with pytest.raises(ValueError, match="the multipliers of one cell prove no bound"):
        proved(step._conditions, with_proof(cell=((low, 2 * high),)))


def test_a_spent_budget_leaves_a_true_bracket(step):
    heard = []
    c = theory.certify("sam", steps=1, lr=0.9, rho=2.0, kappa=10, cells=1, progress=lambda *now: heard.append(now))
    assert (c.cells, c.reached, c.exact) == (1, False, True)
    assert c.attained <= step.certified <= c.certified
    assert heard == [(1, c.attained, pytest.approx(c.certified))]
    assert "not reached" in repr(c)
    assert "not reached" not in repr(step)
    assert math.isfinite(c.certified)


def test_cutting_cells_only_improves(step):
    heard = []
    theory.certify("sam", steps=1, lr=0.9, rho=2.0, kappa=10, progress=lambda *now: heard.append(now))
    assert all(a[0] < b[0] and a[1] <= b[1] and a[2] >= b[2] for a, b in pairwise(heard))


@given(
    st.lists(st.tuples(st.fractions(0, 3, max_denominator=64), st.fractions(0, 3, max_denominator=64)), min_size=1, max_size=2),
    st.integers(0, 8), st.data(),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_bernstein_coefficients_are_those_of_the_product(ends, power, data):
    """Multiplier (affine between corners) times a power of u, at a random point: the polynomial with these coefficients."""
    cell = tuple((min(pair), max(pair) + 1) for pair in ends)
    n = len(cell)
    powers = tuple((power // 3**k) % 3 for k in range(n))
    corner_values = [data.draw(st.integers(0, 5)) for _ in range(2**n)]
    shares = [data.draw(st.fractions(0, 1, max_denominator=16)) for _ in range(n)]
    u = [low + s * (high - low) for (low, high), s in zip(cell, shares, strict=True)]
    multiplier = sum(
        value * math.prod(s if bit else 1 - s for s, bit in zip(shares, bits, strict=True))
        for value, bits in zip(corner_values, product(range(2), repeat=n), strict=True)
    )
    total = Fraction(0)
    for index, entry in zip(product(range(4), repeat=n), weights(cell), strict=True):
        basis = math.prod(math.comb(3, k) * s**k * (1 - s) ** (3 - k) for k, s in zip(index, shares, strict=True))
        total += basis * sum(entry.get((corner, powers), 0) * value for corner, value in enumerate(corner_values))
    assert total == multiplier * math.prod(v**p for v, p in zip(u, powers, strict=True))
    assert at(tuple(u))[0][0, powers] == math.prod(v**p for v, p in zip(u, powers, strict=True))


@given(
    st.integers(1, 5).flatmap(lambda n: st.lists(st.lists(st.integers(-4, 4), min_size=n, max_size=n), min_size=n, max_size=n))
)
@settings(deadline=None)
def test_definiteness_is_that_of_the_eigenvalues(rows):
    """Of R^T R - I, in integers; near 0 the eigenvalues cannot tell."""
    matrix = np.array(rows).T @ np.array(rows) - np.eye(len(rows), dtype=int)
    least = np.linalg.eigvalsh(matrix)[0]
    if abs(least) > 1e-9:
        assert positive_definite([[int(v) for v in row] for row in matrix]) == (least > 0)


@pytest.mark.parametrize("method", ["gd", "usam", "sam"])
def test_conditions_hold_on_a_real_run(method):
    """The rows, on vectors and values of a run on a quadratic: every inequality true, and f(x_N) the value that is bounded."""
    lr, rho, mu, steps = Fraction(1, 2), Fraction(3, 10), Fraction(1, 5), 2
    c = conditions(Specification(method, steps, lr, rho if method != "gd" else Fraction(0), mu, Fraction(1), Fraction(4)))
    hessian, x, basis, points, norms = np.array([0.3, 0.8]), np.array([1.5, -1.0]), [], [], []
    xs, ys, gs, ups = [x], [], [], []
    for _ in range(steps):
        g = hessian * xs[-1]
        norm = np.linalg.norm(g)
        norms.append(norm)
        y = xs[-1] + (0 if method == "gd" else float(rho)) * (g / norm if method == "sam" else g)
        gs, ys, ups = [*gs, g], [*ys, y], [*ups, hessian * y]
        xs.append(xs[-1] - float(lr) * ups[-1])
    gs.append(hessian * xs[-1])
    order = [xs[0], *(v for t in range(steps) for v in ([gs[t]] if method == "gd" else [gs[t], ups[t]])), gs[-1]]
    scales = dict.fromkeys(range(c.size), 1.0)
    for combination in (c.points[1], *c.gradients[1:]):
        for (index, powers), factor in combination.items():
            scales[index] = float(factor) * math.prod(u**p for u, p in zip(norms, powers, strict=False))
    basis = np.array([v / scales[k] for k, v in enumerate(order)])
    points = xs + (ys if method != "gd" else [])
    values = [float((hessian * p * p).sum() / 2) for p in points]

    def at_run(gram):
        return sum(
            float(v) * (1 if i == j else 2) * math.prod(u**p for u, p in zip(norms, powers, strict=False)) * basis[i] @ basis[j]
            for (i, j, powers), v in gram.items()
        )

    for k, p in enumerate(points):
        assert at_run(inner(c.points[k + 1], c.points[k + 1])) == pytest.approx(p @ p)
    left = [at_run(row.gram) + sum(sign * values[k] for k, sign in row.values.items()) - float(row.limit) for row in c.rows]
    assert max(left) <= 1e-12
    assert min(left) < -0.1
    for unit in c.units:
        assert basis[unit] @ basis[unit] == pytest.approx(1)


def test_halves_make_up_the_cell():
    box = ((Fraction(0), Fraction(2)), (Fraction(0), Fraction(8)))
    cell = ((Fraction(1), Fraction(2)), (Fraction(0), Fraction(2)))
    assert halves(cell, box) == (
        ((Fraction(1), Fraction(3, 2)), (Fraction(0), Fraction(2))),
        ((Fraction(3, 2), Fraction(2)), (Fraction(0), Fraction(2))),
    )


GOOD = {"method": "sam", "steps": 1, "lr": 0.5, "rho": 0.5, "kappa": 10}


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"method": "m-sam"}, ValueError, "must be one of gd, usam, sam"),
        ({"steps": 0}, ValueError, "steps"),
        ({"steps": 4}, ValueError, "at most 3 steps"),
        ({"steps": 1.0}, TypeError, "steps"),
        ({"lr": 2.0}, ValueError, "below 2/beta=2"),
        ({"lr": 0.5, "beta": 4}, ValueError, "below 2/beta=0.5"),
        ({"lr": 0.0}, ValueError, "lr"),
        ({"lr": "0.5"}, TypeError, "lr"),
        ({"rho": None}, ValueError, "sam needs rho"),
        ({"method": "gd"}, ValueError, "gd has no rho"),
        ({"rho": -1.0}, ValueError, "rho"),
        ({"rho": math.nan}, ValueError, "rho"),
        ({"kappa": 1}, ValueError, "above 1"),
        ({"beta": 0}, ValueError, "beta"),
        ({"delta": 0}, ValueError, "delta"),
        ({"delta": math.inf}, ValueError, "delta"),
        ({"tolerance": 0}, ValueError, "tolerance"),
        ({"seconds": 0}, ValueError, "seconds"),
        ({"cells": 0}, ValueError, "cells"),
    ],
)
def test_bad_numbers_are_refused(change, error, words):
    arguments = GOOD | change
    with pytest.raises(error, match=words):
        theory.certify(arguments.pop("method"), **arguments)
