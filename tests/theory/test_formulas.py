"""Bounds and step sizes as functions: by hand, against closed forms, as rates, and where E1 begins."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sharpmin import rho as schedules
from sharpmin.theory import InverseTime, theorems

T = theorems()
CONVEX = {"beta": 1.0, "rho": 0.5, "steps": 1000, "delta": 1.0}
STRONG = {**CONVEX, "mu": 0.1}
NOISY = {**CONVEX, "sigma": 0.3}


def test_t1_by_hand():
    beta, mu, rho, steps, delta, lr = 1.0, 0.1, 0.5, 1000, 1.0, 0.02
    tau = lr * 0.5 / (2 * 0.98)
    expected = max((1 - 0.2 * lr * (1 - lr / 2)) ** 1000, tau**2 / 0.2, lr**2 * 0.25 / 2)
    assert T["t1"].bound(beta=beta, mu=mu, rho=rho, steps=steps, delta=delta, lr=lr) == pytest.approx(expected)
    prescribed = 2 / (3 * 0.1 * 1000) * math.log(1e-3 * 1e6 / 0.25)
    assert T["t1"].step_size(**STRONG) == pytest.approx(prescribed)


def test_prescribed_steps():
    assert T["t1d"].step_size(beta=1.0, mu=0.1) == InverseTime(0.1, 40.0)
    assert T["t3"].step_size(**CONVEX) == pytest.approx(math.sqrt(2 / (0.25 * 1000)))
    assert T["t3b"].step_size(**CONVEX) == pytest.approx((4 / (3 * 0.25 * 1000)) ** (1 / 3))
    assert T["t4"].step_size(beta=4.0) == 0.25
    assert T["t5"].step_size(**NOISY, oracle="n-sam") == pytest.approx(math.sqrt(2 / (0.09 * 1000)))
    assert T["u2"].step_size(beta=2.0, rho=0.5) == pytest.approx(1 / 3)
    assert T["d3"].step_size(beta=1.0, mu=0.1) == InverseTime(0.1, 20.0)
    t6 = {**NOISY, "mu": 0.1, "oracle": "n-sam"}
    assert T["t6"].step_size(**t6) == pytest.approx(math.log(2 * 0.01 * 1000 / 0.09) / 100)


SMALL = st.floats(0.01, 10)


@given(beta=SMALL, share=st.floats(0.01, 1), rho=st.floats(0, 5), steps=st.integers(1, 10**6), delta=st.floats(0, 100))
def test_closed_forms_are_no_smaller(beta, share, rho, steps, delta):
    k = {"beta": beta, "rho": rho, "steps": steps, "delta": delta}
    assert T["t1"].closed_form(**k, mu=share * beta) >= T["t1"].bound(**k, mu=share * beta) * (1 - 1e-9)
    assert T["t3"].closed_form(**k) >= T["t3"].bound(**k) * (1 - 1e-9)
    for oracle in ("m-sam", "n-sam"):
        assert T["t5"].closed_form(**k, sigma=0.3, oracle=oracle) >= T["t5"].bound(**k, sigma=0.3, oracle=oracle) * (1 - 1e-9)


RATES = [
    ("t1d", STRONG, -2),
    ("t3", CONVEX, -0.5),
    ("t3b", CONVEX, -2 / 3),
    ("d3", {"beta": 1.0, "mu": 0.1, "sigma": 0.3, "rho0": 0.5, "delta": 1.0}, -1),
    ("r3", {**CONVEX, "switch": 10}, -1),
]


@pytest.mark.parametrize(("name", "keywords", "power"), RATES)
def test_rates(name, keywords, power):
    first, second = (T[name].bound(**{**keywords, "steps": steps}) for steps in (10**9, 10**10))
    assert math.log10(second / first) == pytest.approx(power, abs=1e-3)


def test_d2_has_the_rate_of_sgd_if_rho_decays_half_as_fast_as_lr():
    def at(steps):
        k = {"rho": 0.5 * steps**-0.25, "lr": 0.5 * steps**-0.5, "steps": steps, "oracle": "n-sam"}
        return T["d2"].bound(**{**NOISY, **k})

    assert math.log10(at(100_000) / at(1000)) / 2 == pytest.approx(-0.5, abs=1e-9)


def test_d2_of_a_constant_radius_is_t5():
    k = {**NOISY, "lr": 0.1, "beta_component": 1.5}
    for oracle in ("m-sam", "n-sam"):
        assert T["d2"].bound(**k, oracle=oracle) == pytest.approx(T["t5"].bound(**k, oracle=oracle))


def test_d2_asks_the_schedule_with_its_lr():
    rho = schedules.ProportionalToLR(0.5, lr=0.4, power=0.5)  # 0.25 at lr 0.1
    k = {**NOISY, "lr": 0.1}
    assert T["d2"].bound(**{**k, "rho": rho}) == pytest.approx(T["d2"].bound(**{**k, "rho": 0.25}))


@given(kappa=st.floats(1.0, 100), rho0=st.floats(0, 3), sigma=st.floats(0, 3), steps=st.integers(1, 500))
def test_d3_solves_its_recursion(kappa, rho0, sigma, steps):
    """d+ = (1 - lr mu) d + (lr^2/2) A: exactly without noise, and with it up to the factor (t + t0 - 1)/(t + t0)."""
    beta, delta = 2.0, 1.7
    mu, a = beta / kappa, beta**3 * rho0**2 + beta * sigma**2
    lr, start, all_terms = T["d3"].step_size(beta=beta, mu=mu), delta, delta
    for t in range(steps):
        start = (1 - lr(t) * mu) * start
        all_terms = (1 - lr(t) * mu) * all_terms + lr(t) ** 2 * a / 2
    k = {"beta": beta, "mu": mu, "steps": steps, "delta": delta, "oracle": "n-sam"}
    assert T["d3"].bound(**k, sigma=0.0, rho0=0.0) == pytest.approx(start, rel=1e-9, abs=1e-15)
    bound = T["d3"].bound(**k, sigma=sigma, rho0=rho0)
    assert all_terms * (1 - 1e-9) <= bound
    assert (bound - start) * (1 - 1 / (2 * kappa)) <= (all_terms - start) * (1 + 1e-9) + 1e-12


@given(kappa=st.floats(1.0, 2.373))
def test_e1_is_refused_up_to_its_threshold(kappa):
    with pytest.raises(ValueError, match="e1"):
        T["e1"].bound(beta=kappa, mu=1.0, rho=1.0)


@given(beta=SMALL, kappa=st.floats(2.5, 1e3), rho=SMALL, fraction=st.floats(0.001, 0.4))
def test_e1_stays_below_its_supremum(beta, kappa, rho, fraction):
    mu, w = beta / kappa, fraction * rho
    c_max = ((beta - mu) * (rho - 2 * w) - mu * (rho + w)) / (2 * mu)
    assume(0.999 * c_max > w)
    supremum = (beta - 2 * mu) ** 2 * rho**2 / (8 * mu)
    assert T["e1"].bound(beta=beta, mu=mu, rho=rho, w=w, c=0.999 * c_max) <= supremum * (1 + 1e-12)
