"""The exact constants of hinge problems against a dense grid, and the gradient against the value."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharpmin.theory import Hinge, HingeProblem
from sharpmin.theory._examine.examine import setting_of
from sharpmin.theory._problems.hinge import combine
from sharpmin.theory._statements.random_problems import random_hinge

KINDS = st.sampled_from([0.3, 0.0, -1.0])  # the least slope: strongly convex, convex, nonconvex
SEEDS = st.integers(0, 10_000)


def make(seed, low, noise=0.0):
    return random_hinge(np.random.default_rng(seed), low, 1.0, noise=noise)


def grid(f):
    """Everything that a constant could depend on, and much else."""
    knots = [t for h in f.components for t in h.knots()]
    return np.unique(np.concatenate([np.linspace(-12, 12, 40_001), knots, f.mean.zeros()]))


@given(SEEDS, KINDS)
def test_value_is_the_integral_of_the_gradient(seed, low):
    f, x, h = make(seed, low), np.linspace(-5, 5, 101), 1e-5
    central = (f.value(x + h) - f.value(x - h)) / (2 * h)
    assert np.allclose(central, f.gradient(x), atol=1e-5)


@given(SEEDS, KINDS)
def test_f_star_is_the_least_value(seed, low):
    f = make(seed, low)
    gaps = f.gap(grid(f))
    assert -1e-12 <= gaps.min() <= 1e-12
    assert f.gap(np.array(f.minimizers)) == pytest.approx(0, abs=1e-12)


@given(SEEDS, KINDS)
def test_beta_and_mu_bound_the_difference_quotients_and_are_reached(seed, low):
    f = make(seed, low)
    x = grid(f)
    quotients = np.diff(f.gradient(x))[np.diff(x) > 1e-6] / np.diff(x)[np.diff(x) > 1e-6]
    assert np.abs(quotients).max() == pytest.approx(f.beta, rel=1e-6)
    assert max(0.0, quotients.min()) == pytest.approx(f.mu, abs=1e-6)


@given(SEEDS, KINDS)
def test_pl_is_the_infimum_of_the_ratio(seed, low):
    f = make(seed, low)
    x = grid(f)
    gap, u = f.gap(x), f.gradient(x) ** 2
    ratios = u[gap > 1e-6] / (2 * gap[gap > 1e-6])
    assert f.pl <= ratios.min() + 1e-6
    assert f.pl >= f.mu - 1e-12
    # reached: at a point of the grid, in the limit at a minimizer (a curvature there), or at an end
    slopes = [s for s in f.mean.slopes() if s > 0]
    assert min(abs(f.pl - r) for r in [ratios.min(), *slopes]) < 2e-3 * max(1.0, f.pl)


@given(SEEDS, KINDS)
def test_sigma_is_the_largest_deviation(seed, low):
    f = make(seed, low, noise=0.7)
    x = grid(f)
    full = f.gradient(x)
    deviations = [(f.sample_gradient(x, np.full((len(x), 1), i)) - full) ** 2 for i in range(2)]
    assert np.sqrt(np.mean(deviations, axis=0)).max() == pytest.approx(f.sigma, rel=1e-9)


@given(SEEDS, KINDS)
def test_the_mean_of_the_samples_is_the_gradient(seed, low):
    f, x = make(seed, low, noise=0.7), np.linspace(-4, 4, 33)
    each = [f.sample_gradient(x, np.full((len(x), 1), i)) for i in range(2)]
    assert np.allclose(f.probabilities[0] * each[0] + f.probabilities[1] * each[1], f.gradient(x), atol=1e-12)


@given(SEEDS)
def test_scalar_and_vector_code_agree(seed):
    f, x = make(seed, -1.0), np.linspace(-4, 4, 33)
    assert np.allclose([f.mean(float(v)) for v in x], f.gradient(x), atol=1e-12)


def test_sigma_is_infinite_where_the_samples_drift_apart():
    f = HingeProblem("spread", (Hinge(b=1.0), Hinge(b=2.0)), (0.5, 0.5))
    assert math.isinf(f.sigma)


@given(SEEDS, st.integers(-150, 150), st.integers(2, 9))
def test_slopes_that_cancel_up_to_rounding_are_flat(seed, power, count):
    """What is drawn flat is flat, and a convex function has no slope below 0."""
    rng = np.random.default_rng(seed)
    x = np.cumsum(rng.uniform(0.1, 1.0, count))
    rises = 10.0**power * rng.uniform(0.1, 1.0, count - 1)
    heights = np.concatenate([[0.0], np.cumsum(rises)])
    h = Hinge.through(list(zip(x.tolist(), heights.tolist(), strict=True)), left=0.0, right=0.0)
    assert h.slopes() == pytest.approx([0.0, *np.diff(heights) / np.diff(x), 0.0], rel=1e-12, abs=0)
    assert h.flat()
    assert setting_of(HingeProblem("ramp", (h,))) == "convex"


@given(st.integers(1, 99), st.floats(0.1, 10), st.floats(0.1, 10))
def test_samples_that_cancel_up_to_rounding_leave_nothing(percent, slope, height):
    """p u - (1 - p) v = 0 with v = p u / (1 - p)."""
    p = percent / 100
    clip = Hinge.through([(-1.0, -slope), (1.0, slope)], left=0.0, right=0.0)
    one, other = Hinge(height, slope, clip.hinges), Hinge(-p * height / (1 - p), -p * slope / (1 - p))
    other = combine([(1.0, other), (-p / (1 - p), Hinge(0.0, 0.0, clip.hinges))])
    assert combine([(p, one), (1 - p, other)]) == Hinge()


def test_hinges_that_cancel_vanish():
    h = Hinge.through([(-1.0, -1.0), (1.0, 1.0)], left=0.0, right=0.0)
    assert combine([(0.5, h), (-0.5, h)]) == Hinge()


@pytest.mark.parametrize(
    ("components", "probabilities", "message"),
    [
        ((Hinge(b=1.0),), (0.5,), "sum 1"),
        ((Hinge(b=1.0), Hinge(b=1.0)), (1.0,), "one per sample"),
        ((Hinge(b=1.0), Hinge(b=1.0)), (1.5, -0.5), "positive"),
        ((Hinge(b=-1.0),), (1.0,), "bounded below"),
        ((Hinge(a=1.0),), (1.0,), "bounded below"),
    ],
)
def test_what_is_no_problem_is_refused(components, probabilities, message):
    with pytest.raises(ValueError, match=message):
        HingeProblem("bad", components, probabilities)


@pytest.mark.parametrize("slopes", list(itertools.product((-1.0, 0.0, 1.0), repeat=2)))
@pytest.mark.parametrize("heights", list(itertools.product((-1.0, 0.0, 1.0), repeat=2)))
def test_bounded_below_is_to_point_outwards_far_away(heights, slopes):
    """f' at either end is flat or not, and there it falls away from the middle or does not."""
    points, far = list(zip((-1.0, 2.0), heights, strict=True)), 1e6
    h = Hinge.through(points, left=slopes[0], right=slopes[1])
    if h(-far) <= 0 <= h(far):
        f = HingeProblem("any", (h,))
        assert f.gap(np.linspace(-9, 9, 1001)).min() >= -1e-12
    else:
        with pytest.raises(ValueError, match="bounded below"):
            HingeProblem("any", (h,))


def test_points_must_ascend():
    with pytest.raises(ValueError, match="ascending"):
        Hinge.through([(1.0, 0.0), (1.0, 1.0)], left=0.0, right=0.0)
