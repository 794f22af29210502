"""plan against the statements that it quotes: the same numbers, terms that add up, floors that are limits, working advice."""

import inspect
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sharpmin.core.rho import Capped, Constant, InverseSqrt, ProportionalToLR, Unnormalized
from sharpmin.theory import InverseTime, plan, theorems
from sharpmin.theory._statements.atlas import atlas
from sharpmin.theory._statements.situation import ORACLES, QUANTITIES, RADII, SETTINGS

CASES = atlas()
RULES = {name: theorem.rule for name, theorem in theorems().items() if theorem.rule and not theorem.applies}

T = theorems()
K = {"beta": 1.5, "mu": 0.1, "rho": 0.2, "steps": 5000, "delta": 1.0, "distance": 2.0}


def speak(oracle, setting, radius):
    """The upper bounds of a cell; those of constant rho hold for any radii of at most rho, so for decaying ones, too."""
    more = CASES[oracle, setting, "constant"].rules if radius == "decaying" else ()
    return tuple(dict.fromkeys((*CASES[oracle, setting, radius].rules, *more)))


def situations():
    """Every cell with every quantity that one of its upper bounds is about."""
    for cell in CASES:
        for quantity in dict.fromkeys(RULES[name].quantity for name in speak(*cell)):
            yield *cell, quantity


ALL = list(situations())


def planned(oracle, setting, radius, quantity=None, **changes):
    k = {**K, "sigma": None if oracle == "exact" else 0.3, **changes}
    return plan(oracle=oracle, setting=setting, radius=radius, quantity=quantity, **k)


def by_hand(p, sigma, k):
    """The statement's own bound at the plan's step size."""
    name = p.ids[0]
    values = {**k, "sigma": sigma or 0.0, "rho0": k["rho"], "lr": p.step_size, "clip": p.clip}
    values["oracle"] = "n-sam" if p.oracle == "exact" else p.oracle
    values["c"] = getattr(p.rho, "c", None)
    if RULES[name].schedule == "inverse-sqrt":
        values["rho"] = InverseSqrt(k["rho"])
    bound = T[name].bound(
        **{key: values[key] for key in inspect.signature(T[name].formula).parameters if values.get(key) is not None}
    )
    return bound / k["steps"] if RULES[name].per_step else bound


def test_the_map_has_60_cells_and_only_known_rules():
    assert len(CASES) == 60
    assert CASES.keys() == {(o, s, r) for o in ORACLES for s in SETTINGS for r in RADII}
    named = {name for case in CASES.values() for name in (*case.rules, *case.switches, *case.residuals)}
    assert named == RULES.keys()
    assert {name for case in CASES.values() for name in case.switches} == {name for name, rule in RULES.items() if rule.switch}
    assert {rule.quantity for rule in RULES.values()} == QUANTITIES.keys()


@pytest.mark.parametrize("situation", ALL)
def test_the_bound_is_the_statements_at_the_plans_step_size(situation):
    p = planned(*situation)
    assert p.quantity == situation[3]
    assert p.bound == pytest.approx(by_hand(p, 0.3 * (p.oracle != "exact"), K), rel=1e-12)


@pytest.mark.parametrize("situation", ALL)
def test_the_terms_make_the_bound(situation):
    p = planned(*situation)
    whole = max(p.terms.values()) if RULES[p.ids[0]].maximum else math.fsum(p.terms.values())
    assert whole == pytest.approx(p.bound, rel=1e-9)
    assert p.terms[p.dominant] == max(p.terms.values())
    assert min(p.terms.values()) >= 0


@pytest.mark.parametrize("situation", ALL)
def test_the_floor_is_the_limit(situation):
    p = planned(*situation)
    late = planned(*situation, steps=10**15)
    assert late.bound == pytest.approx(p.floor, rel=1e-4, abs=1e-5)
    assert p.bound >= p.floor


@pytest.mark.parametrize("situation", [s for s in ALL if s[2] != "decaying"])
def test_with_a_given_step_size_the_floor_keeps_its_noise(situation):
    lr = 0.1
    p = planned(*situation, lr=lr)
    assert p.step_size == lr
    assert planned(*situation, lr=lr, steps=10**9).bound == pytest.approx(p.floor, rel=1e-6, abs=1e-6)


def test_t6_by_hand():
    p = plan(setting="strongly-convex", oracle="n-sam", beta=2.0, mu=0.5, sigma=0.3, rho=0.1, steps=1000, delta=1.0)
    lr = (1 - (2 * 0.09 / (2 * 0.25 * 1000)) ** (1 / 999)) / 0.5  # where the derivative of the bound in lr is 0
    assert p.step_size == pytest.approx(lr, rel=1e-6)
    parts = {"start": (1 - 0.5 * lr) ** 1000, "radius": 0.04, "noise": 2 * lr * 0.09}
    assert p.terms == pytest.approx(parts)
    assert (p.floor, p.dominant, p.quantity, p.rho) == (pytest.approx(0.04), "radius", "gap", Constant(0.1))
    assert p.ids[0] == "t6"
    assert "e3" in p.ids


FLOORS = [
    ("exact", "strongly-convex", "constant", None, 0.0),
    ("exact", "convex", "constant", None, 0.0),
    ("exact", "pl", "constant", None, 1.5**2 * 0.04 / 0.2),
    ("exact", "nonconvex", "constant", None, 1.5**2 * 0.04),
    ("m-sam", "strongly-convex", "constant", None, 1.5**2 * 0.04 / 0.2),
    ("m-sam", "convex", "constant", None, 1.5**2 * 0.04),
    ("n-sam", "convex", "constant", None, 1.5 * 0.04 / 2),
    ("n-sam", "strongly-convex", "constant", "squared-distance", 15 * 0.04),
    ("n-sam", "nonconvex", "unnormalized", None, 0.09 * 0.09 / (1 - 0.09)),
    ("m-sam", "pl", "unnormalized", None, 0.09 * 0.09 / (1 - 0.09)),
    ("m-sam", "pl", "decaying", None, 0.0),
    ("exact", "nonconvex", "capped", None, 0.0),
    ("exact", "pl", "clipped", None, 0.0),
]


@pytest.mark.parametrize(("oracle", "setting", "radius", "quantity", "floor"), FLOORS)
def test_floors(oracle, setting, radius, quantity, floor):
    assert planned(oracle, setting, radius, quantity).floor == pytest.approx(floor, rel=1e-9)


RADIUS = [
    ("exact", "nonconvex", "constant", Constant(0.2)),
    ("exact", "nonconvex", "decaying", InverseSqrt(0.2)),
    ("m-sam", "pl", "decaying", ProportionalToLR(0.2, lr=1 / 1.5, power=0.5)),
    ("exact", "nonconvex", "unnormalized", Unnormalized(0.2)),
    ("exact", "nonconvex", "capped", Capped(0.2, c=1 / 3.0)),
    ("exact", "nonconvex", "clipped", Constant(0.2)),
]


@pytest.mark.parametrize(("oracle", "setting", "radius", "rho"), RADIUS)
def test_the_radius_is_what_training_takes(oracle, setting, radius, rho):
    p = planned(oracle, setting, radius)
    assert p.rho == rho
    assert p.clip == (0.5 if radius == "clipped" else None)


def test_the_better_of_two_statements_is_taken():
    for steps in (10, 100, 1000, 10_000):
        k = {"beta": 1.0, "mu": 0.1, "rho": 0.5, "steps": steps, "delta": 1.0}
        p = plan(setting="strongly-convex", oracle="exact", **k)
        at_its_best = min(T["t1"].bound(**k, lr=0.99**i) for i in range(1, 1000))
        assert p.bound == pytest.approx(min(at_its_best, T["t1d"].bound(**k)), rel=0.02)
        assert p.bound <= at_its_best
        assert isinstance(p.step_size, InverseTime) == (p.ids[0] == "t1d")


POSITIVE = st.floats(0.02, 5)
CONSTANTS = {
    "beta": POSITIVE, "share": st.floats(0.02, 1), "sigma": st.floats(0, 2), "radius": st.floats(0.01, 0.6),
    "steps": st.integers(1, 10**5), "delta": st.floats(1e-6, 10), "situation": st.sampled_from(ALL),
}  # fmt: skip


def constants(beta, share, sigma, radius, steps, delta, situation):
    """Within the conditions of every statement: beta rho below 0.6."""
    oracle, setting, rule, quantity = situation
    k = {"beta": beta, "mu": share * beta, "rho": radius / beta, "steps": steps, "delta": delta, "distance": 1.0}
    return (
        {"oracle": oracle, "setting": setting, "radius": rule, "quantity": quantity},
        k,
        (sigma if oracle != "exact" else None),
    )


@given(**CONSTANTS)
def test_any_constants_give_the_statements_bound(**drawn):
    where, k, sigma = constants(**drawn)
    p = plan(**where, **k, sigma=sigma)
    assert p.bound >= 0
    if isinstance(p.step_size, float):
        assert p.bound == pytest.approx(by_hand(p, sigma, k), rel=1e-12)
    assert p.vacuous == (p.bound >= p.trivial > 0)


@settings(max_examples=60)
@given(**{**CONSTANTS, "steps": st.integers(1, 2000), "delta": st.floats(0.01, 10)}, part=st.floats(0.02, 0.9))
def test_the_advice_brings_the_bound_to_the_accuracy(part, **drawn):
    where, k, sigma = constants(**drawn)
    accuracy = part * plan(**where, **k, sigma=sigma).bound
    if accuracy < 1e-12:
        return
    p = plan(**where, **k, sigma=sigma, accuracy=accuracy)
    assert p.enough is False
    staying = [item.steps for item in p.advice if item.change in ("steps", "rho and steps")]
    others = [item.steps for item in p.advice if item.change in ("radius", "oracle")]
    assert others == sorted(others)
    assert all(steps < most for steps in others for most in staying)
    for item in p.advice:
        if item.change == "switch":
            continue
        then = {**where, "quantity": p.quantity, "oracle": item.oracle, "radius": item.radius}
        after = plan(**then, **{**k, "rho": item.rho, "steps": item.steps}, sigma=sigma)
        assert after.bound == pytest.approx(item.bound, rel=1e-9)
        assert after.bound <= accuracy * (1 + 1e-9)


STANDS = {
    "t3",
    "t3b",
    "t5",
    "t7",
    "t7x",
    "t8",
    "t8x",
    "us",
    "us-m",
    "d2",
}  # their step size falls with the distance still to go


@pytest.mark.parametrize("situation", ALL)
def test_at_a_minimizer_no_step_size_is_0(situation):
    k = {**K, "delta": 0.0, "distance": 0.0}
    oracle, setting, radius, quantity = situation
    rules = [name for name in speak(oracle, setting, radius) if RULES[name].quantity == quantity]
    if STANDS.issuperset(rules):
        with pytest.raises(ValueError, match="=0 says that x0 is a minimizer, so nothing has to be done"):
            planned(*situation, delta=0.0, distance=0.0)
        lr = planned(*situation, delta=0.0, distance=0.0, lr=0.01)
        assert lr.bound == pytest.approx(by_hand(lr, 0.3 * (oracle != "exact"), k))
        return
    p = planned(*situation, delta=0.0, distance=0.0)
    assert not isinstance(p.step_size, float) or p.step_size > 0
    assert p.bound == pytest.approx(by_hand(p, 0.3 * (oracle != "exact"), k), rel=1e-12, abs=1e-300)
    assert p.trivial == 0 or quantity == "perturbed-gap"


SAYS = {"setting": "pl", "oracle": "m-sam", "beta": 1.0, "mu": 0.1, "sigma": 0.1, "delta": 1.0}


def test_the_advised_rho_is_the_largest_and_the_advised_steps_are_the_fewest():
    k = {**SAYS, "rho": 0.05, "steps": 10_000}
    rho = next(a for a in plan(**k, accuracy=5e-3).advice if a.change == "rho")
    assert plan(**{**k, "rho": rho.rho * 1.0001}).bound > 5e-3 >= plan(**{**k, "rho": rho.rho}).bound
    steps = next(a for a in plan(**k, accuracy=0.013).advice if a.change == "steps")
    assert plan(**{**k, "steps": steps.steps - 1}).bound > 0.013 >= plan(**{**k, "steps": steps.steps}).bound


def test_below_the_floor_no_number_of_steps_is_advised():
    changes = [a.change for a in plan(**SAYS, rho=0.05, steps=10_000, accuracy=1e-3).advice]
    assert "steps" not in changes
    assert changes[0] == "rho"
    assert "radius" in changes  # decaying


def test_where_neither_helps_alone_both_are_advised():
    k = {**SAYS, "setting": "nonconvex", "rho": 0.05, "steps": 10_000}
    advice = {a.change: a for a in plan(**k, accuracy=1e-3).advice}
    assert {"rho", "steps"}.isdisjoint(advice)
    both = advice["rho and steps"]
    assert both.rho == pytest.approx(math.sqrt(5e-4), rel=1e-3)  # half of the accuracy is left to the floor
    assert plan(**{**k, "rho": both.rho, "steps": both.steps}).bound <= 1e-3


def test_the_late_switch_is_the_latest():
    k = {"beta": 2.0, "rho": 0.5, "steps": 10_000, "delta": 1.0}
    item = next(a for a in plan(setting="nonconvex", oracle="exact", **k, accuracy=0.01).advice if a.change == "switch")
    assert item.switch == 96  # 2 beta Delta/T + beta^2 rho^2 S/T <= 0.01
    assert T["r3"].bound(**k, switch=96) == item.bound <= 0.01 < T["r3"].bound(**k, switch=97)


def test_a_vacuous_bound_says_so_and_what_would_help():
    p = plan(**SAYS, rho=0.5, steps=10_000)
    assert p.vacuous
    assert p.bound >= p.trivial == 1.0
    assert plan(**SAYS, rho=p.advice[0].rho, steps=10_000).bound < 1.0
    assert "vacuous" in str(p)


def test_nothing_helps_where_the_start_is_too_far():
    p = plan(setting="convex", oracle="exact", beta=1.0, rho=0.1, steps=1, delta=1e300, accuracy=1e-300)
    assert p.advice == ()
    assert "to reach it: these bounds know of no change that is enough" in str(p)


@pytest.mark.parametrize("extra", [{"oracle": "exact"}, {"oracle": "m-sam", "sigma": 0.1, "beta_component": 2.0}])
@pytest.mark.parametrize("steps", [1000, 1001, 30_000])
def test_long_horizons_agree_with_the_sum_over_steps(extra, steps):
    k = {"beta": 1.0, "rho": 0.5, "delta": 1.0, "steps": steps}
    p = plan(setting="nonconvex", radius="decaying", **k, **extra)
    more = {"exact": {}, "m-sam": {"sigma": 0.1, "beta_component": 2.0, "oracle": "m-sam"}}[extra["oracle"]]
    exact = T[p.ids[0]].bound(**{**k, "rho": InverseSqrt(0.5)}, lr=p.step_size, **more)
    assert p.bound == pytest.approx(exact / (steps if RULES[p.ids[0]].per_step else 1), rel=1e-13)
    assert plan(setting="nonconvex", radius="decaying", **{**k, "steps": 10**14}, **extra).bound < 1e-6


@pytest.mark.parametrize("situation", ALL)
def test_it_prints_and_turns_into_json(situation):
    p = planned(*situation, accuracy=1e-6)
    lines = str(p).splitlines()
    assert lines[0] == f"{situation[0]}, {situation[1]}, {situation[2]} radius, 5000 steps"
    assert any(line.startswith("  bound") and f"({p.ids[0]})" in line for line in lines)
    row = json.loads(json.dumps(p.record(), allow_nan=False))
    assert row["bound"] == p.bound
    assert row["rho"] == str(p.rho)
    assert [a["rho"] for a in row["advice"]] == [a.rho for a in p.advice]
