"""Bounds and step sizes as numbers: against the text, against closed forms, and at the edges of their assumptions."""

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

# One admissible call of every statement. digits rows take what the statement takes that they apply.
EXAMPLES = {
    "t1": STRONG,
    "t1d": STRONG,
    "c1": {"curvature": 2.0, "rho": 0.7, "lr": 0.15},
    "t2": {"beta": 1.0, "mu": 0.1, "rho": 0.5, "steps": 1000},
    "t3": CONVEX,
    "t3b": CONVEX,
    "t4": CONVEX,
    "t4pl": STRONG,
    "trap": {"theta": 0.125, "beta": 2.0, "rho": 0.5},
    "trap-lipschitz": {"theta": 0.125, "beta": 2.0, "rho": 0.5},
    "t5": NOISY,
    "t6": {**NOISY, "mu": 0.1},
    "t7": {"beta": 1.0, "sigma": 1.0, "rho": 1.0, "steps": 1000, "distance": 0.0, "lr": 0.002},
    "e1": {"beta": 1.0, "mu": 0.1, "rho": 1.0},
    "e3": {"p": 0.1, "rho": 1.0},
    "e5": {"theta": 0.25, "s": 0.2, "beta": 2.0, "rho": 0.5},
    "u1": CONVEX,
    "u1pl": STRONG,
    "u4": {**STRONG, "lr": 0.8},
    "d1": CONVEX,
    "digits-t1": STRONG,
    "digits-t1d": STRONG,
    "digits-t6-m": {**NOISY, "mu": 0.1},
    "digits-t6-n": {**NOISY, "mu": 0.1},
    "digits-t6-vacuous": {**NOISY, "mu": 0.1},
    "digits-decay": {"constant_gap": 1.0},
}

GOLDEN = [
    # recomputed by hand from the statement, not with the code
    ("c1", {"curvature": 2.0, "rho": 0.7, "lr": 0.15}, 2.0 * 0.123529411764706**2 / 2),
    ("trap", EXAMPLES["trap"], 0.75),
    ("e1", EXAMPLES["e1"], 0.1 * (3.065625 - 0.0625) ** 2 / 2),
    ("e3", EXAMPLES["e3"], 0.64),
    ("e3", {"p": 0.1, "rho": 0.5, "beta": 2.0}, 0.64),
    ("e5", EXAMPLES["e5"], 0.09),
    ("u4", {"beta": 1.0, "mu": 0.1, "rho": 0.5, "lr": 0.8, "steps": 1, "delta": 1.0}, 0.839056),
    ("t2", {"beta": 2.0, "mu": 0.5, "rho": 0.5, "steps": 10}, 8 * 0.25 / (8 * 0.25 * 100)),
    ("t3", {**CONVEX, "lr": 0.5}, 2 / (0.5 * 1000) + 0.5 * 0.25),
    ("t3b", {**CONVEX, "lr": 0.5}, max(0.25 * 0.25 / (4 * 0.25), 1 / (0.5 * 0.75 * 1000))),
    ("t4", CONVEX, 2 / 1000 + 0.25),
    ("t4pl", {**STRONG, "steps": 2}, 0.81 + 0.25 / 0.2),
    ("t5", {**NOISY, "oracle": "n-sam", "lr": 0.1}, 2 / 100 + 0.1 * 0.09 + 0.25),
    ("t5", {**NOISY, "oracle": "m-sam", "lr": 0.1}, 2 / 100 + 0.1 * 0.64 + 0.25),
    ("t5", {**NOISY, "oracle": "m-sam", "lr": 0.1, "beta_component": 2.0}, 2 / 100 + 0.1 * 1.69 + 1.0),
    ("t5", {**NOISY, "oracle": "n-sam", "lr": 0.1, "beta_component": 2.0}, 2 / 100 + 0.1 * 0.09 + 0.25),
    ("t6", {**NOISY, "mu": 0.1, "oracle": "n-sam", "lr": 0.1, "steps": 2}, 0.99**2 + 0.25 / 0.2 + 0.1 * 0.09 / 0.2),
    ("t7", EXAMPLES["t7"], 1 / (2 * 0.998) + 0.001),
    ("u1", {**CONVEX, "lr": 0.5}, 2 / (0.5 * 1000 * 0.75)),
    ("u1pl", {**STRONG, "steps": 3}, (1 - 0.1 * 0.75) ** 3),
    ("d1", {**CONVEX, "steps": 3}, 2 + 0.75),
    ("d1", {**CONVEX, "steps": 3, "rho": schedules.InverseSqrt(0.5)}, 2 + 0.25 * (1 + 1 / 2 + 1 / 3)),
    ("t1d", {**STRONG, "steps": 100}, max((40 / 140) ** 3, 2 * 0.25 / 1e-3 / 139**2)),
]


def test_every_statement_has_an_example_here():
    assert EXAMPLES.keys() == T.keys()


@pytest.mark.parametrize(("name", "keywords", "value"), GOLDEN)
def test_golden(name, keywords, value):
    assert T[name].bound(**keywords) == pytest.approx(value, rel=1e-9)


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


@pytest.mark.parametrize("name", ["t1", "t3", "t3b", "t5", "t6", "t4", "t4pl", "u1", "u1pl"])
def test_the_prescribed_step_is_the_default(name):
    k = {n: v for n, v in EXAMPLES[name].items() if n in ("beta",)} if name in ("t4", "t4pl", "u1", "u1pl") else EXAMPLES[name]
    assert T[name].bound(**EXAMPLES[name]) == T[name].bound(**EXAMPLES[name], lr=T[name].step_size(**k))


RATES = [("t1d", -2), ("t3", -0.5), ("t3b", -2 / 3)]


@pytest.mark.parametrize(("name", "power"), RATES)
def test_rates(name, power):
    k = {**EXAMPLES[name], "steps": 10**9}
    slope = math.log10(T[name].bound(**{**k, "steps": 10**10}) / T[name].bound(**k))
    assert slope == pytest.approx(power, abs=1e-3)


@pytest.mark.parametrize("zero", ["rho", "sigma", "delta", "distance"])
@pytest.mark.parametrize("name", EXAMPLES)
def test_zero_is_legal(name, zero):
    if zero in EXAMPLES[name] and (name, zero) != ("e5", "rho"):  # e5 needs 0 < s < beta rho theta: nothing is left
        value = T[name].bound(**{**EXAMPLES[name], zero: 0.0})
        assert math.isfinite(value)
        assert value >= 0


@pytest.mark.parametrize("name", [n for n in EXAMPLES if {"rho", "delta"} <= EXAMPLES[n].keys()])
def test_nothing_is_claimed_where_nothing_is_wrong(name):
    """At the optimum, without perturbation and noise, every upper bound is 0."""
    zeros = dict.fromkeys(EXAMPLES[name].keys() & {"rho", "sigma", "delta"}, 0.0)
    assert T[name].bound(**{**EXAMPLES[name], **zeros}) == 0.0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
@pytest.mark.parametrize("name", EXAMPLES)
def test_values_outside_every_domain(name, value):
    for keyword in EXAMPLES[name]:
        with pytest.raises((ValueError, TypeError), match=rf"{keyword}="):
            T[name].bound(**{**EXAMPLES[name], keyword: value})


@pytest.mark.parametrize("name", EXAMPLES)
def test_wrong_and_missing_keywords(name):
    with pytest.raises(TypeError, match="betta") as error:
        T[name].bound(**EXAMPLES[name], betta=1.0)
    assert "it takes (" in str(error.value)
    first = next(iter(EXAMPLES[name]))
    with pytest.raises(TypeError, match=first):
        T[name].bound(**{k: v for k, v in EXAMPLES[name].items() if k != first})


@pytest.mark.parametrize("name", EXAMPLES)
def test_wrong_kinds(name):
    for keyword in EXAMPLES[name]:
        with pytest.raises(TypeError, match=keyword):
            T[name].bound(**{**EXAMPLES[name], keyword: "0.1"})


CONDITIONS = [
    ("t1", {**STRONG, "lr": 1.0}, "below 1/beta"),
    ("t1", {**STRONG, "mu": 1.5}, "mu <= beta"),
    ("c1", {"curvature": 2.0, "rho": 0.7, "lr": 1.0}, "below 2/curvature"),
    ("t2", {**EXAMPLES["t2"], "steps": 1}, "at least 2"),
    ("t2", {**EXAMPLES["t2"], "lr": 2.0}, "below 2/beta"),
    ("t3", {**CONVEX, "lr": 1.01}, "at most 1/beta"),
    ("t3b", {**CONVEX, "lr": 1.0}, "below 1/beta"),
    ("t4", {**CONVEX, "lr": 1.01}, "at most 1/beta"),
    ("t4pl", {**STRONG, "lr": 1.01}, "at most 1/beta"),
    ("trap", {**EXAMPLES["trap"], "theta": 0.5}, "theta"),
    ("trap", {**EXAMPLES["trap"], "lr": 0.6}, "at most 1/beta"),
    ("t5", {**NOISY, "lr": 1.01}, "at most 1/beta"),
    ("t5", {**NOISY, "oracle": "both"}, "oracle='both'"),
    ("t6", {**NOISY, "mu": 0.1, "lr": 1.01}, "at most 1/beta"),
    ("t7", {**EXAMPLES["t7"], "lr": 1.0}, "below 1/beta"),
    ("e1", {**EXAMPLES["e1"], "mu": 0.5}, "2.3730"),
    ("e1", {**EXAMPLES["e1"], "lr": 20.0}, "below 2/mu"),
    ("e3", {**EXAMPLES["e3"], "c": 7.0}, "must exceed"),
    ("e5", {**EXAMPLES["e5"], "s": 0.3}, "s=0.3"),
    ("u1", {**CONVEX, "rho": 1.0}, "beta rho"),
    ("u1pl", {**STRONG, "rho": 1.5}, "beta rho"),
    ("d1", {**CONVEX, "lr": 0.5}, "1/beta"),
    ("t1", {**STRONG, "steps": 0}, "steps=0"),
]


@pytest.mark.parametrize(("name", "keywords", "message"), CONDITIONS)
def test_outside_its_conditions_a_statement_is_silent(name, keywords, message):
    with pytest.raises(ValueError, match=message):
        T[name].bound(**keywords)


@pytest.mark.parametrize("name", [n for n, t in T.items() if t.prescribed is None])
def test_no_prescribed_step(name):
    with pytest.raises(ValueError, match="prescribes no step size"):
        T[name].step_size(beta=1.0)


def test_no_closed_form():
    with pytest.raises(ValueError, match="closed form"):
        T["t4"].closed_form(beta=1.0)


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
