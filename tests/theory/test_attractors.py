"""Attractors of SAM's step, against what is known by hand: C1 with its multipliers, the traps, and stability by iteration."""

import numpy as np
import pytest

from sharpmin.theory import Attractor, attractors, own, problems, simulate

P = problems()


def on_axis(lam, i, lr, rho):
    """The two-cycle along the i-th axis of a quadratic: its height, and the multipliers of two steps by hand."""
    s = lr * lam[i]
    z = np.array(lam) / lam[i]
    steps = 1 - s * z - (2 - s) * z**2
    steps[i] = 1 - s
    return s * rho / (2 - s), np.sort(steps**2)[::-1]


@pytest.mark.parametrize("lam", [[2.0], [2.0, 0.7, 0.1]])
def test_the_two_cycles_of_a_quadratic(lam):
    lr, rho = 0.15, 0.7
    starts = [0.3] if len(lam) == 1 else 0.3 * np.eye(len(lam))
    found = attractors(P["quadratic"](curvatures=lam), lr=lr, rho=rho, starts=starts)
    assert len(found) == len(lam)
    for a in found:
        i = int(np.abs(a.points).max(axis=0).argmax())
        height, multipliers = on_axis(lam, i, lr, rho)
        assert a.period == 2
        assert np.abs(a.points[:, i]) == pytest.approx(height, rel=1e-9)
        assert a.multipliers.real == pytest.approx(multipliers, rel=1e-4)
        assert a.stable == (multipliers[0] < 1) == (i == 0)
        assert a.gap == pytest.approx(lam[i] * height**2 / 2, rel=1e-9)
        assert a.gradient == pytest.approx(lam[i] * height, rel=1e-9)


@pytest.mark.parametrize("lr", [0.1, 0.25, 0.45])
def test_the_trap(lr):
    beta, rho, theta = 2.0, 0.5, 0.125
    (a,) = attractors(P["trap"](theta=theta, beta=beta, rho=rho), lr=lr, rho=rho, starts=[0.2, 0.1, -0.05])
    assert a.points == pytest.approx(np.zeros((1, 1)), abs=1e-9)
    assert a.multipliers == pytest.approx([1 - lr * beta], abs=1e-6)
    assert (a.stable, a.gradient) == (True, pytest.approx((1 - 2 * theta) * beta * rho))


def test_a_curve_of_fixed_points_is_neither():
    """pl-trap rests on a curve: one multiplier is 1, along it; the other is inside the circle."""
    f = P["pl-trap"](mu=1.0, rho=3.5)
    (a,) = attractors(f, lr=0.1, rho=3.5, starts=[[-2.306926, 0.687922]])
    assert (a.period, a.stable) == (1, None)
    assert a.multipliers.real[0] == pytest.approx(1.0, abs=1e-8)
    assert 0 < abs(a.multipliers[1]) < 0.99
    assert a.gradient > 6.5
    y = a.points + 3.5 * f.gradient(a.points) / f.norm(f.gradient(a.points))[:, None]
    assert f.gradient(y) == pytest.approx(np.zeros((1, 2)), abs=1e-9)


@pytest.mark.parametrize("share", [0.9, 1.1])
def test_unnormalized_sam_rests_at_the_optimum_until_u3_s_limit(share):
    """U3: lr beta (1 + rho beta) = 2 is where the optimum stops to attract; gradient descent has rho = 0."""
    beta, rho = 2.0, 0.5
    for method, factor in (("usam", 1 + rho * beta), ("gd", 1.0)):
        lr = share * 2 / (beta * factor)
        found = attractors(
            P["quadratic"](curvatures=[beta, 1.0]), method=method, lr=lr, rho=rho, starts=[[1e-3, 2e-3]], steps=1
        )
        assert [a.stable for a in found] == [share < 1]
        assert found[0].multipliers[0] == pytest.approx(1 - lr * beta * factor)
        assert found[0].gap == pytest.approx(0.0, abs=1e-20)


def test_no_point_of_rest_at_a_minimizer_for_sam():
    assert attractors(P["quadratic"](curvatures=[2.0]), lr=0.1, rho=0.5, starts=[0.0]) == []


def test_multipliers_that_turn_are_complex():
    """grad f = (x + 2y, y - 2x) is no gradient, but its step turns: multipliers 1 - lr (1 +- 2i)."""
    f = own(value=lambda x: x @ x / 2, gradient=lambda x: x + 2 * np.array([x[1], -x[0]]), dim=2, beta=3.0, f_star=0.0)
    (a,) = attractors(f, method="gd", lr=0.1, rho=0.0, starts=[[0.1, 0.2]], steps=10)
    assert sorted(a.multipliers.imag) == pytest.approx([-0.2, 0.2])
    assert abs(a.multipliers) == pytest.approx([np.hypot(0.9, 0.2)] * 2)


def test_stable_is_what_runs_from_nearby_come_back_to():
    f, lr, rho = P["trap-smooth"](beta=2.0, rho=0.5), 0.25, 0.5
    found = attractors(f, lr=lr, rho=rho, starts=np.linspace(-1.0, 1.0, 9))
    assert len(found) >= 3
    for a in found:
        run = simulate(f, method="sam", lr=lr, rho=rho, steps=2 * 200, x0=a.points[0] + 1e-4, means=False)
        assert (abs(float(run.x_final[0]) - a.points[0, 0]) < 1e-6) == (a.stable is True)


REFUSED = [
    ({"method": "m-sam"}, "method='m-sam' must be gd, sam or usam"),
    ({"lr": 0.0}, "lr=0.0"),
    ({"rho": -1.0}, "rho=-1.0"),
    ({"steps": 0}, "steps=0"),
    ({"starts": [[1.0, 2.0, 3.0]]}, "shape"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_refusals(change, message):
    k = {"lr": 0.1, "rho": 0.5, "starts": [[1.0, 2.0]], **change}
    with pytest.raises(ValueError, match=message):
        attractors(P["quadratic"](curvatures=[2.0, 1.0]), **k)


def test_a_multiplier_of_one_is_undecided():
    a = Attractor(np.zeros((1, 2)), np.array([1.0 + 1e-8, 0.5]), 0.0, 1.0)
    assert a.stable is None
