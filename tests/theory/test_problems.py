"""Problems against their defining numbers, and what they refuse."""

import numpy as np
import pytest

from sharpmin.theory import problems

P = problems()


def test_trap_numbers():
    f = P["trap"](theta=0.125, beta=2.0, rho=0.5)
    assert f.gradient(np.array([0.0]))[0] == pytest.approx(0.75, abs=1e-12)
    assert f.value(np.array([0.0, 0.5])) == pytest.approx([0.2421875, 0.375], abs=1e-12)
    assert (f.beta, f.minimizers) == (2.0, [-0.5])


@pytest.mark.parametrize("theta", [0.01, 0.125, 0.3, 0.49])
def test_trap_is_the_three_parabolas_of_its_definition(theta):
    beta, rho = 1.7, 0.6
    f, x = P["trap"](theta=theta, beta=beta, rho=rho), np.linspace(-3, 3, 601)
    left, right = -theta * rho, (1 - theta) * rho
    middle = beta / 2 * rho**2 * (1 - theta) ** 2 + beta * rho * (1 - theta) * (x - left) - beta / 2 * (x - left) ** 2
    expected = np.where(
        x <= left,
        beta / 2 * (x + rho) ** 2,
        np.where(x <= right, middle, beta * rho**2 * (1 - 2 * theta) + beta / 2 * (x - rho) ** 2),
    )
    assert np.allclose(f.value(x), expected, atol=1e-12)


@pytest.mark.parametrize("theta", [0.05, 0.125, 0.4])
def test_lipschitz_trap_is_trap_clipped(theta):
    f, g = (P[name](theta=theta, beta=2.0, rho=0.5) for name in ("trap-lipschitz", "trap"))
    x = np.linspace(-4, 4, 801)
    assert np.allclose(f.gradient(x), np.where(np.abs(x) <= 1.0, g.gradient(x), np.sign(x) * 1.0), atol=1e-12)


def test_e1_numbers():
    f = P["e1"](beta=1.0, mu=0.1, rho=1.0)
    assert f.gap(np.array([3.065625]))[0] == pytest.approx(0.46990, abs=5e-6)
    assert (f.sigma, f.beta, f.beta_component) == pytest.approx((0.4065625, 0.1, 1.0), abs=1e-12)


@pytest.mark.parametrize("sample", [0, 1])
def test_e1_has_the_same_virtual_gradient_on_j_for_either_sample(sample):
    mu, rho, w, c = 0.1, 1.0, 1 / 16, 3.065625
    f, x = P["e1"](beta=1.0, mu=mu, rho=rho), np.linspace(c - w, c + w, 41)
    draw = np.full((len(x), 1), sample)
    g = f.sample_gradient(x, draw)
    assert np.allclose(f.sample_gradient(x + rho * np.sign(g), draw), mu * (x - c), atol=1e-12)


def test_e3_is_centred_with_the_stated_variance():
    p, beta, c = 0.1, 2.0, 30.0
    f = P["e3"](p=p, rho=1.0, beta=beta, c=c)
    assert f.sigma**2 == pytest.approx(beta**2 * c**2 * p / (1 - p))
    assert f.gradient(np.zeros(1))[0] == pytest.approx(0, abs=1e-12)


def test_product_is_xy_minus_one_squared():
    f, x = P["product"](), np.array([[2.0, 1.0], [-1.0, 3.0]])
    h = 1e-6
    slope = [[(f.value(x + h * e) - f.value(x - h * e))[i] / (2 * h) for e in np.eye(2)] for i in range(2)]
    assert np.allclose(f.gradient(x), slope, atol=1e-6)


def test_logcosh_curvature_lies_between_mu_and_beta():
    f, x = P["logcosh"](beta=2.0, mu=0.3), np.linspace(-6, 6, 2001)
    slopes = np.diff(f.gradient(x)) / np.diff(x)
    assert slopes.max() == pytest.approx(2.0, abs=1e-4)
    assert slopes.min() == pytest.approx(0.3, abs=1e-4)
    assert f.value(np.array([1.5]))[0] == pytest.approx(1.7 * np.log(np.cosh(1.5)) + 0.15 * 1.5**2, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("trap", {"theta": 0.5, "beta": 1.0, "rho": 1.0}, "theta"),
        ("trap", {"theta": 0.1, "beta": -1.0, "rho": 1.0}, "beta"),
        ("trap", {"theta": 0.1, "beta": 1.0, "rho": 0.0}, "no trap"),
        ("trap-lipschitz", {"theta": 0.1, "beta": 1.0, "rho": 0.0}, "no trap"),
        ("e1", {"beta": 2.373, "mu": 1.0, "rho": 1.0}, "2.3730"),
        ("e1", {"beta": 1.0, "mu": 0.1, "rho": 1.0, "w": 0.6}, "rho/2"),
        ("e1", {"beta": 1.0, "mu": 0.1, "rho": float("nan")}, "rho"),
        ("e3", {"p": 0.6, "rho": 1.0}, "p=0.6"),
        ("e3", {"p": 0.1, "rho": 1.0, "c": 7.0}, "c=7"),
        ("e5", {"theta": 0.1, "s": 0.5, "beta": 1.0, "rho": 1.0}, "s=0.5"),
        ("quadratic", {"curvatures": []}, "at least one"),
        ("quadratic", {"curvatures": [1.0, -2.0]}, "> 0"),
        ("logcosh", {"beta": 1.0, "mu": 2.0}, "mu"),
        ("digits", {"l2": 0.0}, "l2"),
    ],
)
def test_outside_the_conditions_is_refused(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        P[name](**arguments)


def test_e1_threshold_is_where_the_text_says():
    assert P["e1"](beta=2.3731, mu=1.0, rho=1.0).mu == pytest.approx(1.0)
