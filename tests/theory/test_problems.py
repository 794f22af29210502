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


def test_e3_is_centered_with_the_stated_variance():
    p, beta, c = 0.1, 2.0, 30.0
    f = P["e3"](p=p, rho=1.0, beta=beta, c=c)
    assert f.sigma**2 == pytest.approx(beta**2 * c**2 * p / (1 - p))
    assert f.gradient(np.zeros(1))[0] == pytest.approx(0, abs=1e-12)


def test_e2_falls_with_slope_m_around_its_drift_s_zero():
    beta, mu, rho = 2.0, 0.5, 0.3
    f, xb = P["e2"](beta=beta, mu=mu, rho=rho), (beta / mu - 1) * rho
    x, upper = np.linspace(-xb, 3 * xb, 41), np.zeros((41, 1), dtype=np.int64)
    up, down = f.sample_gradient(x, upper), f.sample_gradient(x, upper + 1)
    assert (up > 0).all()
    assert (down < 0).all()
    drift = (f.sample_gradient(x + rho, upper) + f.sample_gradient(x - rho, upper + 1)) / 2
    assert np.allclose(drift, mu * (x - xb), atol=1e-12)
    assert (f.beta, f.beta_component) == pytest.approx((mu, beta))


@pytest.mark.parametrize(("beta", "mu"), [(2.0, 1.0), (1.0, 0.1), (1.1, 1.0)])
def test_e2_has_one_zero_of_the_mean_drift(beta, mu):
    """Where W is below xb - 2 rho the optimum is a second one."""
    rho = 0.7
    f, xb = P["e2"](beta=beta, mu=mu, rho=rho), (beta / mu - 1) * rho
    x, upper = np.linspace(-40 * xb, 40 * xb, 40_000), np.zeros((40_000, 1), dtype=np.int64)
    drift = 0.0
    for sample in (upper, upper + 1):
        drift = drift + f.sample_gradient(x + rho * np.sign(f.sample_gradient(x, sample)), sample) / 2
    assert ((drift > 0) == (x > xb)).all()


@pytest.mark.parametrize("sample", [0, 1])
def test_e4_has_no_gradient_at_the_perturbed_point(sample):
    f, x = P["e4"](beta=1.0, rho=1.0, d=50.0), np.linspace(50 - 1 / 32, 50 + 1 / 32, 21)
    draw = np.full((len(x), 1), sample)
    assert np.allclose(f.sample_gradient(x + np.sign(f.sample_gradient(x, draw)), draw), 0.0, atol=1e-12)
    assert f.gap(np.array([50.0]))[0] == pytest.approx(22.39875)
    assert f.gradient(np.array([50.0]))[0] ** 2 == pytest.approx(0.2025)
    assert (f.beta, f.beta_component) == pytest.approx((1.0, 1.0))


def test_smooth_trap_is_the_cosine_of_its_definition():
    beta, rho = 2.0, 0.5
    f, x, w = P["trap-smooth"](beta=beta, rho=rho), np.linspace(-3, 3, 301), 3 * np.pi / (2 * rho)
    assert np.allclose(f.value(x), beta / w**2 - beta / w**2 * np.cos(w * x), atol=1e-15)
    assert f.gradient(np.array([-rho]))[0] == pytest.approx(2 * beta * rho / (3 * np.pi))


def test_pl_trap_is_pl_and_scales_with_rho():
    f, g = P["pl-trap"](mu=1.0, rho=3.5), P["pl-trap"](mu=0.3, rho=7.0)
    x = np.random.default_rng(0).normal(0, 3, (500, 2))
    assert np.allclose(f.value(x), (x[:, 1] - 3 * np.cos(x[:, 0])) ** 2 / 2)
    assert (f.norm(f.gradient(x)) ** 2 >= 2 * f.pl * f.value(x) * (1 - 1e-12)).all()
    assert np.allclose(g.gradient(2 * x), 0.6 * f.gradient(x))


def test_us_has_its_optimum_between_the_samples():
    f = P["us"](h1=1.0, h2=0.2)
    assert f.minimizers == pytest.approx([0.8 / 1.2])
    assert f.gradient(np.array([0.5]))[0] == pytest.approx((0.5 - 1.0) / 2 + 0.2 * 1.5 / 2)


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
        ("e2", {"beta": 1.0, "mu": 1.0, "rho": 1.0}, "below beta"),
        ("e2", {"beta": 1.0, "mu": 0.1, "rho": 0.0}, "rho=0"),
        ("e3", {"p": 0.6, "rho": 1.0}, "p=0.6"),
        ("e4", {"beta": 1.0, "rho": 1.0, "d": 1.4}, "1.5 rho"),
        ("e4", {"beta": 1.0, "rho": 0.0, "d": 1.0}, "rho=0"),
        ("trap-smooth", {"beta": 1.0, "rho": 0.0}, "no trap"),
        ("pl-trap", {"mu": 1.0, "rho": 0.0}, "no trap"),
        ("us", {"h1": 1.0, "h2": -1.0}, "h2=-1"),
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
