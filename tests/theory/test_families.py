"""The random functions on which upper bounds are tried: their constants are exact, and no two statements meet the same ones."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from sharpmin.theory import theorems
from sharpmin.theory._problems.dense import Noisy
from sharpmin.theory._problems.hinge import HingeProblem
from sharpmin.theory._problems.ridges import random_ridges
from sharpmin.theory._problems.wedge_shape import wedge_shape
from sharpmin.theory._statements.random_problems import random_problems

T = theorems()
KINDS = ("strongly-convex", "convex", "nonconvex")


def trials(name="t1", kind="strongly-convex", **options):
    return list(random_problems(T[name], kind, quick=True, **options))


DRAWN = [(kind, trial) for kind in KINDS for trial in trials(kind=kind)]


def points(f, lanes=4000, scale=2.0, seed=0):
    x = np.random.default_rng(seed).normal(0.0, scale, (lanes, f.dim))
    return x[:, 0] if f.dim == 1 else x


def curvatures(f, x, step):
    """<g(x + s) - g(x), s>/||s||^2 for steps s of that length: all are within the curvatures of f."""
    s = points(f, len(x), seed=1)
    s = s / (f.norm(s) if f.dim == 1 else f.norm(s)[:, None]) * step
    change = f.gradient(x + s) - f.gradient(x)
    return (change * s if f.dim == 1 else (change * s).sum(axis=1)) / step**2


@pytest.mark.parametrize(("kind", "trial"), DRAWN)
def test_no_curvature_is_outside_of_what_a_function_says(kind, trial):
    f = trial.problem
    low = f.mu if kind != "nonconvex" else -f.beta
    seen = np.concatenate([curvatures(f, points(f, scale=scale), 1e-4) for scale in (0.05, 1.0, 10.0)])
    assert (seen <= f.beta * (1 + 1e-6)).all()
    assert (seen >= low - 1e-6 * f.beta).all()
    assert seen.max() >= 0.95 * f.beta  # and beta is no larger than it has to be
    if kind == "strongly-convex":
        assert f.mu > 0
        assert seen.min() <= f.mu + 0.05 * f.beta


@pytest.mark.parametrize(("kind", "trial"), DRAWN)
def test_the_gradient_is_the_slope_of_the_value(kind, trial):
    f, step = trial.problem, 1e-5
    x, s = points(f, 50), points(f, 50, seed=1)
    change = (f.value(x + step * s) - f.value(x - step * s)) / (2 * step)
    product = f.gradient(x) * s
    assert change == pytest.approx(product if f.dim == 1 else product.sum(axis=1), rel=1e-4, abs=1e-4)
    assert (f.gap(points(f)) >= -f.resolution).all()


def test_a_wedge_is_a_quadratic_and_the_squared_distance_to_the_wedge():
    beta, mu, tangent = 1.7, 0.3, 0.4
    f, z = wedge_shape(beta, mu, tangent), points(wedge_shape(beta, mu, tangent), 60)
    ray = np.linspace(0, 12, 200_001)
    edges = np.stack([ray, tangent * ray], axis=1) / np.hypot(1, tangent)
    nearest = [min(np.hypot(*(edges - [x, sign * y]).T).min() for sign in (1, -1)) for x, y in z]
    inside = np.abs(z[:, 1]) <= tangent * z[:, 0]
    away = np.where(inside, 0.0, nearest)
    assert f.value(z) == pytest.approx(mu / 2 * (z**2).sum(axis=1) + (beta - mu) / 2 * away**2, abs=1e-7)
    assert 0 < inside.sum() < 60


@pytest.mark.parametrize("low", [0.2, 0.0, -1.0])
def test_the_hessian_of_ridges_turns(low):
    f = random_ridges(np.random.default_rng(3), low, 1.0)
    assert (f.beta, f.mu) == (pytest.approx(1.0), max(low, 0.0))
    tops, step = [], 1e-5
    for x in (np.zeros(f.dim), *points(f, 20)):
        steps = step * np.eye(f.dim)
        hessian = (f.gradient(x + steps) - f.gradient(x - steps)) / (2 * step)
        assert hessian == pytest.approx(hessian.T, abs=1e-6)
        tops.append(np.linalg.eigh(hessian)[1][:, -1])
    assert min(abs(a @ b) for a, b in combinations(tops, 2)) < 0.9


def kinds_of(drawn):
    return {trial.problem.name for trial in drawn}


def test_quick_mode_leaves_out_no_kind_of_function():
    convex = {"random hinges", "quadratic", "log-cosh", "wedge", "ridges"}
    assert kinds_of(trials(kind="strongly-convex")) == kinds_of(trials(kind="convex")) == convex
    assert kinds_of(trials(kind="nonconvex")) == {"random hinges", "bounded ridges"}
    noisy = trials(kind="convex", seeds=2)
    assert kinds_of(noisy) == {f"noisy {name}" for name in convex}
    assert all(trial.problem.sigma > 0 for trial in noisy)


@pytest.mark.parametrize("kind", KINDS)
def test_half_of_the_starts_are_where_sam_cycles(kind):
    near = []
    for trial in trials(kind=kind):
        f = trial.problem
        center = f.minimizers[0] if isinstance(f, HingeProblem) else 0.0
        away = f.norm(trial.x0 - center) / (f.beta * trial.lr * trial.rho)
        near.append(away < 6)
    near = np.array(near)
    assert near[1::2, 0::2].all()
    assert near[0::2, 1::2].all()
    assert near.mean() < 0.9  # the others start wherever they like


def same(a, b):
    return type(a) is type(b) and a.name == b.name and a.beta == b.beta


def test_every_statement_meets_functions_of_its_own_and_a_mutant_those_of_its_statement():
    betas = {name: {trial.problem.beta for trial in trials(name)} for name in T}
    for one, other in combinations(T, 2):
        assert betas[one].isdisjoint(betas[other]), (one, other)
    mutant = replace(T["t1"], formula=lambda **_: 0.0)
    for ours, theirs in zip(trials("t1"), random_problems(mutant, "strongly-convex", quick=True), strict=True):
        assert same(ours.problem, theirs.problem)
        assert (ours.x0 == theirs.x0).all()
        assert (ours.lr == theirs.lr).all()


def test_noise_is_added_to_the_functions_that_have_none():
    inner = [trial.problem for trial in trials(kind="convex", seeds=2) if isinstance(trial.problem, Noisy)]
    assert {f.inner.name for f in inner} == {"quadratic", "log-cosh", "wedge", "ridges"}
    for f in inner:
        x, n = points(f, 6), len(f.offsets)
        mean = sum(f.sample_gradient(x, np.full((6, 1), i)) for i in range(n)) / n
        assert mean == pytest.approx(f.gradient(x))
