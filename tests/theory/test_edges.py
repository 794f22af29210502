"""Conditions tested close to their edge, constants at any scale, and what only long runs show."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharpmin import rho as schedules
from sharpmin.theory import Hinge, HingeProblem, plan, problems, samples, simulate, theorems
from sharpmin.theory._problems.dense import DiagonalQuadratic, Noisy
from sharpmin.theory._statements.random_problems import Draw, random_hinge

T, P = theorems(), problems()
JUST = 1 + 1e-6
STRONG = {"beta": 1.0, "mu": 0.1, "rho": 0.5, "steps": 10, "delta": 1.0}
CONVEX = {k: v for k, v in STRONG.items() if k != "mu"}
NOISY = {**CONVEX, "sigma": 0.3}
E5 = {"theta": 0.4, "beta": 1.0, "rho": 1.0}  # the limit of s is 0.1, by (1 - 2 theta)/2

EDGES = [
    # statement, keywords, name of the one that sits on the edge, a value inside, a value outside
    ("t1", STRONG, "lr", 1 / JUST, 1.0),
    ("t3", CONVEX, "lr", 1.0, JUST),
    ("t3b", CONVEX, "lr", 1 / JUST, 1.0),
    ("t4", CONVEX, "lr", 1.0, JUST),
    ("t4pl", STRONG, "lr", 1.0, JUST),
    ("t5", NOISY, "lr", 1.0, JUST),
    ("t6", {**NOISY, "mu": 0.1}, "lr", 1.0, JUST),
    ("t7", {"beta": 1.0, "sigma": 1.0, "rho": 1.0, "steps": 10, "distance": 1.0}, "lr", 1 / JUST, 1.0),
    ("c1", {"curvature": 2.0, "rho": 0.5}, "lr", 1 / JUST, 1.0),
    ("u1", {**CONVEX, "lr": 1.0}, "rho", 1 / JUST, 1.0),
    ("d1", CONVEX, "lr", 1.0, JUST),
    ("d1", CONVEX, "lr", 1.0, 1 / JUST),
    ("e5", E5, "s", 0.1 / JUST, 0.1 * JUST),
    ("e5", {**E5, "theta": 0.1}, "s", 0.1 / JUST, 0.1 * JUST),
    ("e3", {"p": 0.1, "rho": 1.0}, "c", 7.2 * JUST, 7.2 / JUST),
    ("t1", {k: v for k, v in STRONG.items() if k != "mu"}, "mu", 1.0, JUST),
]


@pytest.mark.parametrize(("name", "keywords", "edge", "inside", "outside"), EDGES)
def test_conditions_at_their_edge(name, keywords, edge, inside, outside):
    rest = {k: v for k, v in keywords.items() if k != edge}
    assert T[name].bound(**rest, **{edge: inside}) >= 0
    with pytest.raises(ValueError, match=name):
        T[name].bound(**rest, **{edge: outside})


@pytest.mark.parametrize(
    "rho", [schedules.Unnormalized(0.9), schedules.Capped(0.5, c=1.0), schedules.Every(schedules.Capped(0.5, c=3.0), k=2)]
)
def test_d1_refuses_radii_that_look_at_the_gradient(rho):
    with pytest.raises(ValueError, match="d1"):
        T["d1"].bound(beta=1.0, rho=rho, steps=200, delta=0.5)


@pytest.mark.parametrize("name", ["t1", "t4", "u1"])
def test_a_schedule_where_a_number_is_needed(name):
    k = STRONG if name == "t1" else CONVEX
    with pytest.raises(TypeError, match="rho=InverseSqrt"):
        T[name].bound(**{**k, "rho": schedules.InverseSqrt(0.5)})


CLOSED = [
    ("t1", {"beta": 1.0, "mu": 0.1, "rho": 0.5, "steps": 10, "delta": 1.0}, 2.5),  # beta^4 rho^2/(mu^3 T^2)
    ("t1", {"beta": 1.0, "mu": 0.1, "rho": 1e-9, "steps": 10, "delta": 1.0}, 0.4723665527410147),  # exp(-3/4)
    ("t1", {**STRONG, "mu": 0.5, "steps": 1000}, 2 / 9 * 0.25 / 0.125 / 1e6 * 13.122363377404328**2),
    ("t3", {"beta": 2.0, "rho": 0.5, "steps": 8, "delta": 1.0}, 0.5 + 2 * (2 * 8 * 0.25 / 8) ** 0.5),
]


@pytest.mark.parametrize(("name", "keywords", "value"), CLOSED)
def test_closed_forms_as_numbers(name, keywords, value):
    assert T[name].closed_form(**keywords) == pytest.approx(value, rel=1e-6)


@given(seed=st.integers(0, 500), low=st.sampled_from([0.3, -1.0]), power=st.integers(-20, 20))
def test_constants_do_not_depend_on_the_scale_of_x(seed, low, power):
    f, s = random_hinge(np.random.default_rng(seed), low, 1.0), 2.0**power
    h = f.mean
    g = HingeProblem("scaled", (Hinge(h.a * s, h.b, tuple((t * s, c) for t, c in h.hinges)),))
    assert (g.beta, g.mu, g.pl) == pytest.approx((f.beta, f.mu, f.pl), rel=1e-9)
    assert g.minimizers == pytest.approx([x * s for x in f.minimizers], rel=1e-9)


@pytest.mark.parametrize("rho", [1e-9, 1e-7, 1.0, 1e6])
def test_a_trap_is_no_pl_function_however_small(rho):
    f = P["trap"](theta=0.125, beta=1.0, rho=rho)
    assert f.pl == pytest.approx(0.0, abs=1e-12)
    assert f.minimizers == pytest.approx([-rho])


def test_a_constant_is_pl_with_every_constant():
    assert HingeProblem("constant", (Hinge(),)).pl == float("inf")


@pytest.mark.parametrize("engine", ["numpy", "compiled"])
def test_noise_does_not_repeat_in_a_long_run(engine):
    f, x, steps = P["e1"](beta=1.0, mu=0.1, rho=1.0), 0.7, 1100
    run = simulate(f, method="n-sam", lr=0.3, rho=1.0, steps=steps, x0=x, seeds=11, engine=engine)
    for t in range(steps):
        xi, other = samples(f, 11, t)
        g = f.components[xi](x)
        x -= 0.3 * f.components[other](x + np.sign(g))
    assert float(run.x_final[0]) == pytest.approx(x, abs=1e-9)


def test_noisy_gradients_are_the_inner_one_plus_the_offset():
    f = Noisy(DiagonalQuadratic((1.0, 4.0)), ((0.5, -1.0), (-0.5, 1.0)))
    x = np.array([[3.0, 1.0], [3.0, 1.0]])
    assert f.sample_gradient(x, np.array([[0], [1]])).tolist() == [[3.5, 3.0], [2.5, 5.0]]
    assert f.sigma == pytest.approx(1.25**0.5)


def test_the_error_of_a_mean_over_seeds():
    trial = Draw(P["quadratic"](curvatures=[1.0]), np.zeros(2), np.ones(2), np.ones(2), seeds=4)
    mean, error = trial.average(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 5.0, 5.0, 5.0]))
    assert mean.tolist() == [2.5, 5.0]
    assert error == pytest.approx([(5 / 3) ** 0.5 / 2, 0.0])


def test_the_batch_smoothness_of_samples_is_a_root_mean_square():
    f = HingeProblem("two", (Hinge(b=1.0), Hinge(b=3.0)), (0.75, 0.25))
    assert (f.beta, f.beta_batch, f.beta_component) == pytest.approx((1.5, 3.0**0.5, 3.0))


def test_what_plan_knows_of_the_perturbed_gap_beforehand():
    """f(y_0) - f* can be (Delta^(1/2) + rho (beta/2)^(1/2))^2, as on this parabola, so T7 is not vacuous below that."""
    k = {"beta": 1.0, "sigma": 0.0, "rho": 5.0, "steps": 100, "delta": 1e-3, "distance": 0.05}
    promised = plan(setting="convex", oracle="n-sam", quantity="perturbed-gap", **k)
    run = simulate(P["quadratic"](curvatures=[1.0]), method="sam", lr=1e-6, rho=5.0, steps=1, x0=(2e-3) ** 0.5)
    assert promised.trivial == pytest.approx(float(run.mean_perturbed_gap[0]), rel=1e-9)
    assert not promised.vacuous
