"""What is a remedy on TRAP and what is not, in numbers; and where T8, US and D2 are false without a condition."""

import numpy as np
import pytest

from sharpmin import rho as schedules
from sharpmin.theory import Hinge, HingeProblem, problems, simulate, theorems
from sharpmin.theory._theorems import d3, polyak, t8

P, T = problems(), theorems()
TRAP = P["trap"](theta=0.125, beta=2.0, rho=0.5)
ON_TRAP = [
    ("constant rho", {"method": "sam", "rho": 0.5}, 0.75),
    ("usam at beta rho = 1", {"method": "usam", "rho": 0.5}, 0.35),
    ("usam", {"method": "usam", "rho": 0.25}, 0.0),
    ("capped", {"method": "sam", "rho": schedules.Capped(0.5, c=0.25)}, 0.0),
    ("clipped", {"method": "sam", "rho": 0.5, "clip": 0.5}, 0.0),
    ("switch", {"method": "sam", "rho": schedules.Until(0.5, stop=200)}, 0.0),
    ("switch back", {"method": "sam", "rho": schedules.Tail(0.5, start=2)}, 0.75),
]


@pytest.mark.parametrize(("options", "slope"), [row[1:] for row in ON_TRAP], ids=[row[0] for row in ON_TRAP])
def test_on_trap(options, slope):
    run = simulate(TRAP, lr=0.25, steps=400, x0=0.2, **options)
    assert abs(TRAP.gradient(run.x_final.values)[0]) == pytest.approx(slope, abs=1e-12)


@pytest.mark.parametrize("share", [1.5, 1.9])
def test_t8_is_false_beyond_one_over_beta(share):
    """On beta x^2/2 the two-cycle sits at |x| = share rho/(2 - share), from which the right-hand side has fallen below."""
    beta, rho, steps = 2.0, 0.3, 1000
    lr, start = share / beta, share * rho / (2 - share)
    f = P["quadratic"](curvatures=[beta])
    run = simulate(f, method="n-sam", lr=lr, rho=rho, steps=steps, x0=start, means=False)
    square = float(run.x_final[0]) ** 2
    assert square == pytest.approx(start**2)
    k = {"beta": beta, "mu": beta, "sigma": 0.0, "rho": rho, "steps": steps, "distance": start, "lr": lr}
    assert t8.right_hand_side(**k) < square
    assert 2 * rho**2 * (1 + 1 / abs(1 - share)) < square  # nor does an absolute value save it
    with pytest.raises(ValueError, match="below 1/beta"):
        T["t8"].bound(**k)


def test_us_m_is_false_with_the_smoothness_of_f_in_place_of_the_samples():
    """f = 0.05 x^2, samples of curvature up to 1: r is 0.7, not 0.07."""
    f, s = Hinge(b=0.1), Hinge.through([(2.2, 0.75), (3.6, 0.75 - 0.9 * 1.4)], left=0.0, right=0.0)
    problem = HingeProblem("steep samples", (f + s, f - s), (0.5, 0.5))
    k = {"lr": 0.05, "rho": 0.7, "steps": 4000}
    run = simulate(problem, method="m-usam", x0=2.9, seeds=range(64), **k)
    measured = float(run.mean_square_gradient.mean())
    k |= {"beta": problem.beta, "sigma": problem.sigma, "delta": float(problem.gap(np.array([2.9]))[0])}
    assert T["us-m"].bound(**k) < measured / 4
    assert T["us-m"].bound(**k, beta_component=problem.beta_component) > measured


def test_d2_refuses_a_radius_that_follows_the_gradient():
    """Asked without a norm, `Unnormalized` says 0; the statement would then be that of plain SGD, which USAM exceeds."""
    rho = schedules.Unnormalized(0.3)
    run = simulate(P["quadratic"](curvatures=[2.0]), method="sam", lr=0.5, rho=rho, steps=100, x0=1.0)
    k = {"beta": 2.0, "sigma": 0.0, "steps": 100, "delta": 1.0, "lr": 0.5}
    assert T["d2"].bound(**k, rho=0.0) < float(run.mean_square_gradient[0]) / 1.5
    with pytest.raises(ValueError, match="depends on the gradient"):
        T["d2"].bound(**k, rho=rho)


def test_d3_starts_at_the_radius_that_was_asked_for():
    lr, radius = T["d3"].step_size(beta=2.0, mu=0.5), d3.radius(beta=2.0, rho0=0.3)
    assert [radius(schedules.StepInfo(t, lr(t))) for t in (0, 8)] == pytest.approx([0.3, 0.3 / 2**0.5])


@pytest.mark.parametrize("x", [0.1, -0.3, 0.5])
def test_polyak_s_projected_step_is_zero_within_rho(x):
    assert polyak.step(3.0, 0.5, x, projected=True) == x


def test_polyak_stays_at_the_optimum():
    assert [polyak.step(3.0, 0.5, 0.0, projected=which) for which in (True, False)] == [0.0, 0.0]


def test_n_sam_is_not_held_where_m_sam_rests():
    f = P["e4"](beta=1.0, rho=1.0, d=3.0)
    ends = [
        simulate(f, method=m, lr=0.1, rho=1.0, steps=400, x0=3.0, seeds=range(50)).x_final.values for m in ("m-sam", "n-sam")
    ]
    assert np.abs(ends[0] - 3.0).max() < 1e-9
    assert ends[1].mean() < 1.5
