"""plan against a dense scan of the bounds: best step size, decaying radii, other quantities; and runs at radii below rho."""

import inspect
import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sharpmin.core.rho import Every, InverseSqrt
from sharpmin.theory import plan, theorems
from sharpmin.theory._plan.least import DECADES, least
from sharpmin.theory._statements.atlas import atlas
from sharpmin.theory._statements.random_problems import random_problems
from sharpmin.theory._statements.statistic import distance, statistic

from .test_plan import ALL, speak

T, CASES = theorems(), atlas()
ORACLES = {"exact": "sam", "m-sam": "m-sam", "n-sam": "n-sam"}
SCAN = [10.0 ** (-k / 8) for k in range(12 * 8 + 1)]  # of lr beta
LARGE = 1e300  # an accuracy that needs no advice


def call(theorem, values, **more):
    """The statement's bound on what `plan` calls its quantity; inf where it does not hold."""
    values = {**values, **more}
    if theorem.rule.schedule == "inverse-sqrt":
        values["rho"] = InverseSqrt(values["rho"])
    names = inspect.signature(theorem.formula).parameters
    try:
        bound = theorem.bound(**{name: values[name] for name in names if values.get(name) is not None})
    except ValueError:
        return math.inf
    return bound / (values["steps"] if theorem.rule.per_step else 1)


def scan(name, oracle, k):
    """The bound of a statement at every step size of the scan, from large to small; one number if it takes none."""
    values = {**k, "rho0": k["rho"], "c": 1 / (2 * k["beta"]), "clip": 0.5, "oracle": "n-sam" if oracle == "exact" else oracle}
    if "lr" not in inspect.signature(T[name].formula).parameters:
        return [call(T[name], values)]
    return [call(T[name], values, lr=share / k["beta"]) for share in SCAN]


POSITIVE = st.floats(0.02, 5)
CONSTANTS = {
    "beta": POSITIVE, "share": st.floats(1e-4, 1), "sigma": st.floats(0, 2), "radius": st.floats(0.001, 0.6),
    "log_steps": st.floats(0, 7), "delta": st.floats(1e-6, 10), "distance": st.floats(1e-3, 10),
}  # fmt: skip


def constants(oracle, *, beta, share, sigma, radius, log_steps, delta, distance):
    """Within the conditions of every statement: beta rho below 0.6."""
    k = {"beta": beta, "mu": share * beta, "rho": radius / beta, "steps": int(10**log_steps), "delta": delta}
    return {**k, "distance": distance, "sigma": 0.0 if oracle == "exact" else sigma}


@settings(max_examples=60)
@given(situation=st.sampled_from(ALL), **CONSTANTS)
def test_no_step_size_of_a_dense_scan_does_better(situation, **drawn):
    oracle, setting, radius, quantity = situation
    k = constants(oracle, **drawn)
    p = plan(oracle=oracle, setting=setting, radius=radius, quantity=quantity, accuracy=LARGE, **k)
    names = [name for name in speak(oracle, setting, radius) if T[name].rule.quantity == quantity]
    best = min(min(scan(name, oracle, k)) for name in names)
    assert p.bound <= best * (1 + 1e-6) or best >= p.trivial * (1 - 1e-9)


@settings(max_examples=60)
@given(situation=st.sampled_from(ALL), **CONSTANTS)
def test_every_bound_falls_and_then_rises_in_the_step_size(situation, **drawn):
    oracle, setting, radius, _ = situation
    for name in speak(oracle, setting, radius):
        values = [value for value in scan(name, oracle, constants(oracle, **drawn)) if value < math.inf]
        lowest = values.index(min(values))
        assert all(a >= b * (1 - 1e-9) for a, b in pairwise(values[: lowest + 1])), name
        assert all(b >= a * (1 - 1e-9) for a, b in pairwise(values[lowest:])), name


@pytest.mark.parametrize(("name", "k"), [
    ("t1", {"beta": 1.0, "mu": 0.001, "rho": 0.05, "steps": 10_000, "delta": 1.0}),
    ("t3b", {"beta": 1.0, "rho": 0.5, "steps": 1000, "delta": 1.0}),
    ("t6", {"beta": 1.0, "mu": 0.1, "sigma": 3.5, "rho": 0.01, "steps": 1000, "delta": 1.0}),
])  # fmt: skip
def test_the_prescribed_step_size_is_not_the_best(name, k):
    oracle, setting = ("m-sam", "pl") if "sigma" in k else ("exact", "strongly-convex" if "mu" in k else "convex")
    p = plan(oracle=oracle, setting=setting, quantity=T[name].rule.quantity, **k)
    assert p.ids[0] == name
    assert p.bound < T[name].bound(**k) * 0.999
    assert T[name].bound(**k, lr=T[name].step_size(**k)) == T[name].bound(**k)


def test_where_no_step_size_helps_the_prescribed_one_is_kept():
    k = {"beta": 1.0, "mu": 0.1, "sigma": 2.0, "rho": 0.05, "steps": 1, "delta": 0.01}
    p = plan(oracle="n-sam", setting="pl", **k)
    assert p.vacuous
    assert p.step_size == T["t6"].step_size(**k, oracle="n-sam") == 1.0


VALLEYS = [
    (lambda x: x + 1e-12 / x, 1e-6),
    (lambda x: max(1e-3 / x, x), math.sqrt(1e-3)),
    (lambda x: 1 + (x - 1e-9) if x > 1e-9 else 1.0, None),  # flat below
    (lambda x: 1e-4 / x if x < 0.3 else math.inf, 0.3),
    (lambda x: max(1.0, 1.0 if x < 2e-3 else x * 500) - 0.5 * (1e-3 < x < 2e-3), None),  # a dip at the end of a plateau
    (lambda x: 1 / x, 1.0),
]


@pytest.mark.parametrize(("value", "where"), VALLEYS)
def test_least_finds_the_bottom_of_a_valley(value, where):
    found = least(value, 1.0)
    assert value(found) <= min(value(10.0 ** (-k / 50)) for k in range(601)) * (1 + 1e-8)
    assert where is None or found == pytest.approx(where, rel=1e-6)


def test_least_at_its_ends():
    assert least(lambda x: x, 4.0) == 4.0 * 10.0**-DECADES
    assert least(lambda _: math.inf, 4.0) == 4.0 * 10.0**-DECADES


@settings(max_examples=80)
@given(situation=st.sampled_from([s for s in ALL if s[2] == "constant"]), **CONSTANTS)
def test_a_decaying_radius_is_never_worse(situation, **drawn):
    oracle, setting, _, quantity = situation
    k = constants(oracle, **drawn)
    constant, decaying = (
        plan(oracle=oracle, setting=setting, radius=radius, quantity=quantity, accuracy=LARGE, **k)
        for radius in ("constant", "decaying")
    )
    assert decaying.bound <= constant.bound
    assert decaying.floor <= constant.floor


def test_a_decaying_radius_in_the_strongly_convex_case():
    k = {"setting": "strongly-convex", "oracle": "exact", "beta": 1.0, "mu": 1e-3, "rho": 0.05, "steps": 10**7, "delta": 1.0}
    p = plan(radius="decaying", **k)
    assert p.bound == plan(**k).bound < 5.1e-8
    assert T["d3"].bound(beta=1.0, mu=1e-3, sigma=0.0, rho0=0.05, steps=10**7, delta=1.0, oracle="n-sam") > 4.9e-4
    assert p.rho == InverseSqrt(0.05)
    assert p.note == f"{p.ids[0]} is a bound of constant rho, which holds for any radii of at most rho"
    assert plan(radius="decaying", **k, lr=0.01).bound == plan(**k, lr=0.01).bound


def test_nothing_is_advised_that_takes_longer_than_staying():
    k = {"setting": "strongly-convex", "oracle": "exact", "beta": 1.0, "mu": 1e-3, "rho": 0.05, "steps": 10**4, "delta": 1.0}
    advice = plan(**k, accuracy=1e-9).advice
    staying = next(item.steps for item in advice if item.change == "steps")
    assert 6e7 < staying < 8e7
    assert [item.radius for item in advice] == ["constant", "unnormalized", "clipped"]  # decaying takes as long as staying
    assert max(item.steps for item in advice[1:]) < 3e4


def test_a_vacuous_bound_names_the_quantities_of_which_something_is_known():
    k = {"setting": "strongly-convex", "oracle": "n-sam", "beta": 1.0, "mu": 0.01, "sigma": 0.1, "rho": 0.2, "steps": 10_000}
    p = plan(**k, delta=1.0, distance=2.0)
    assert p.vacuous
    assert p.quantity == "gap"
    t7 = min(4 / (2 * lr * 10_000) + 0.02 / (1 - lr) + lr * 0.01 / 2 for lr in SCAN[1:])
    assert t7 * 0.97 < p.instead["perturbed-gap"] <= t7
    for quantity, bound in p.instead.items():
        other = plan(**k, delta=1.0, distance=2.0, quantity=quantity)
        assert (other.bound, other.vacuous) == (bound, False)
        assert f"the bound of quantity={quantity!r} is not vacuous" in str(p)
    assert plan(**k, delta=1.0).instead == {}  # without R nothing else is known
    assert plan(**{**k, "rho": 0.01}, delta=1.0, distance=2.0).instead == {}  # not vacuous


UP_TO_RHO = [
    (name, oracle, setting)
    for name, theorem in T.items()
    if theorem.rule and theorem.rule.up_to_rho and not theorem.applies
    for oracle, setting in dict.fromkeys(
        (o, s) for place in theorem.places for o, s, r in place.situations() if r == "constant"
    )
]  # fmt: skip


def test_every_bound_of_constant_rho_serves_a_decaying_one():
    of_constant = {(name, o, s) for (o, s, radius), case in CASES.items() if radius == "constant" for name in case.rules}
    assert set(UP_TO_RHO) == of_constant


@pytest.mark.parametrize(("name", "oracle", "setting"), UP_TO_RHO)
@pytest.mark.parametrize("radius", [InverseSqrt(0.7), Every(0.7, k=3)])
def test_bounds_of_constant_rho_hold_for_smaller_radii(name, oracle, setting, radius):
    kind, lanes, steps = {"pl": "strongly-convex"}.get(setting, setting), 1 if oracle == "exact" else 16, 60
    for trial in random_problems(T[name], kind, quick=True, seeds=lanes, settings=3, top=0.9):
        f = trial.problem
        away, mu = distance(f, trial.x0), f.pl if setting == "pl" else f.mu
        own = {} if "lr" in inspect.signature(T[name].formula).parameters else {"lr": T[name].step_size(beta=f.beta, mu=mu)}
        values = statistic(
            f, trial.run(ORACLES[oracle], steps, rho=radius, record=range(steps + 1), **own), T[name].rule.quantity
        )
        mean, error = trial.average(values)
        for i, lr in enumerate(trial.lr):
            k = {"beta": f.beta, "mu": mu, "sigma": f.sigma, "rho": 0.7, "steps": steps,
                 "delta": float(trial.gap()[i]), "distance": float(away[i]), "lr": float(lr),
                 "beta_component": f.beta_batch, "oracle": "n-sam" if oracle == "exact" else oracle}  # fmt: skip
            assert mean[i] - 4 * error[i] <= call(T[name], k) * (1 + 1e-9) + f.resolution
