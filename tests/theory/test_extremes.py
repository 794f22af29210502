"""Numbers at the end of floating point and beyond, None, and kinds that are no numbers: one clear error each."""

import inspect
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sharpmin.core.rho import Constant, Cosine, Every, StepInfo, as_schedule
from sharpmin.theory import InverseTime, plan, problems, samples, theorems
from sharpmin.theory._statements.atlas import atlas

CASES = atlas()
RULES = {name: theorem.rule for name, theorem in theorems().items() if theorem.rule and not theorem.applies}

T, P = theorems(), problems()
STRONG = {"beta": 1.0, "mu": 0.1, "rho": 0.5, "steps": 1000, "delta": 1.0}
NOISY = {"beta": 1.0, "sigma": 0.3, "rho": 0.5, "steps": 1000, "delta": 1.0}
BEYOND = "lead beyond floating point"

EXTREME = [
    ("t1", "bound", {**STRONG, "beta": 1e200}, r"t1\.bound: beta=1e\+200, mu=0\.1, rho=0\.5, steps=1000, delta=1 lead beyond"),
    ("t1", "step_size", {**STRONG, "rho": 1e200}, r"t1\.step_size: .*rho=1e\+200"),
    ("t1", "closed_form", {**STRONG, "mu": 1e-200}, r"t1\.closed_form: .*mu=1e-200"),
    ("t1d", "bound", {**STRONG, "mu": 5e-324}, r"t1d\.bound: .*mu=4\.94066e-324"),
    ("t5", "bound", {**NOISY, "beta": 1e308, "sigma": 1e-200, "rho": 0.0}, r"t5\.bound: beta=1e\+308"),
    ("t5", "closed_form", {**NOISY, "delta": 1e200, "sigma": 1e150}, r"t5\.closed_form: .*delta=1e\+200"),
    (
        "d3",
        "bound",
        {"beta": 1.0, "mu": 1e-200, "sigma": 0.3, "rho0": 0.5, "steps": 10, "delta": 1.0},
        r"d3\.bound: .*mu=1e-200",
    ),
    ("u4", "bound", {**STRONG, "lr": 9.0}, r"u4: lr=9 lets the worst case grow 12\.5\^2 times a step"),
    ("t4", "bound", {"beta": 1.0, "rho": 0.5, "steps": 1, "delta": 1e308}, r"t4\.bound: .*delta=1e\+308"),
    ("digits-t1", "bound", {**STRONG, "beta": 1e200}, r"digits-t1\.bound: beta=1e\+200"),
]


@pytest.mark.parametrize(("name", "what", "keywords", "message"), EXTREME)
def test_a_result_beyond_floating_point_names_the_statement_and_the_numbers(name, what, keywords, message):
    with pytest.raises(ValueError, match=message):
        getattr(T[name], what)(**keywords)


VALUES = st.sampled_from([1e-308, 1e-200, 1e-160, 0.4, 1.0, 1e160, 1e200, 1e308])
STEPS = st.sampled_from([1, 10, 1000])
KINDS = {"steps": STEPS, "switch": STEPS, "residual": st.tuples(VALUES, VALUES, VALUES)}


@settings(max_examples=40)
@pytest.mark.parametrize("what", ["formula", "prescribed", "closed"])
@pytest.mark.parametrize("name", T)
@given(data=st.data())
def test_every_statement_gives_a_number_or_a_value_error(name, what, data):
    function = getattr(T[name], what)
    if function is None:
        return
    public = {"formula": T[name].bound, "prescribed": T[name].step_size, "closed": T[name].closed_form}[what]
    keywords = {
        p.name: data.draw(KINDS.get(p.name, VALUES))
        for p in inspect.signature(function).parameters.values()
        if p.name != "oracle" and (p.default is p.empty or data.draw(st.booleans()))
    }
    try:
        result = public(**keywords)
    except ValueError:
        return
    assert isinstance(result, InverseTime) or math.isfinite(result)


@settings(max_examples=150)
@given(
    where=st.sampled_from([key for key, case in CASES.items() if case.rules]),
    changed=st.dictionaries(st.sampled_from(["beta", "mu", "rho", "delta", "distance", "accuracy", "beta_component"]), VALUES),
)
def test_a_plan_is_finite_or_a_value_error(where, changed):
    oracle, setting, radius = where
    k = {"beta": 1.5, "mu": 0.1, "rho": 0.2, "delta": 1.0, "distance": 2.0, "steps": 5000, **changed}
    for quantity in {RULES[name].quantity for name in CASES[where].rules}:
        noise = {} if oracle == "exact" else {"sigma": 0.3}
        try:
            p = plan(oracle=oracle, setting=setting, radius=radius, quantity=quantity, **k, **noise)
        except ValueError:
            continue
        assert math.isfinite(p.bound)
        assert not isinstance(p.step_size, float) or 0 < p.step_size < math.inf
        assert "inf," not in str(p)


def test_an_infinite_bound_is_refused_with_the_reason():
    with pytest.raises(ValueError, match=r"plan: no statement applies .* t4\.bound: .*delta=1e\+308, lr=1 lead beyond"):
        plan(setting="nonconvex", oracle="exact", beta=1.0, rho=0.5, steps=1, delta=1e308)
    with pytest.raises(
        ValueError, match=r"plan: no statement applies .* d1\.bound: .*delta=1e\+308.* lead beyond"
    ):  # a long horizon
        plan(setting="nonconvex", oracle="exact", radius="decaying", beta=1e5, rho=0.5, steps=1001, delta=1e308)


HUGE = 10**400
TOO_LARGE = [
    (lambda: Constant(HUGE), "Constant: rho=inf; rho must be a finite number >= 0"),
    (lambda: as_schedule(-HUGE), "rho=-inf"),
    (lambda: Cosine(0.1, steps=HUGE), "Cosine: steps has 1329 bits; steps must be an integer below 2"),
    (lambda: T["t4"].bound(beta=HUGE, rho=0.5, steps=10, delta=1.0), "t4: beta=inf must be finite and > 0"),
    (lambda: T["t4"].bound(beta=1.0, rho=0.5, steps=HUGE, delta=1.0), "t4: steps has 1329 bits"),
    (lambda: plan(setting="nonconvex", oracle="exact", beta=1.0, rho=HUGE, steps=9, delta=1.0), "rho=inf"),
    (lambda: plan(setting="pl", oracle="exact", beta=1.0, mu=0.1, rho=1, steps=9, delta=1.0, accuracy=HUGE), "accuracy=inf"),
    (lambda: InverseTime(HUGE, 1.0), "InverseTime: mu=inf"),
    (lambda: P["us"](h1=HUGE, h2=1.0), "us: h1=inf"),
    (lambda: P["trap"](theta=0.1, beta=HUGE, rho=1.0), "trap: beta=inf"),
    (lambda: samples(P["e1"](beta=1.0, mu=0.1, rho=1.0), HUGE, 0), "samples: seed has 1329 bits"),
]


@pytest.mark.parametrize(("call", "message"), TOO_LARGE)
def test_an_integer_that_no_float_can_hold(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert len(str(error.value)) < 300


BAD_DECAY = [
    ((0.0, 1.0), ValueError, "InverseTime: mu=0.0; mu must be a finite number > 0"),
    ((-1.0, 1.0), ValueError, "mu=-1.0; mu must be"),
    ((1.0, 0.0), ValueError, "InverseTime: shift=0.0; shift must be a finite number > 0"),
    ((1.0, math.inf), ValueError, "shift=inf; shift must be"),
    ((math.nan, 1.0), ValueError, "mu=nan; mu must be"),
    (("1", 1.0), TypeError, "mu='1' is a str"),
    ((1.0, True), TypeError, "shift=True is a bool"),
    ((1e-200, 1e-200), ValueError, r"InverseTime: 2/\(mu shift\)=inf"),
    ((1e200, 1e200), ValueError, r"InverseTime: 2/\(mu shift\)=0.0"),
]


@pytest.mark.parametrize(("arguments", "kind", "message"), BAD_DECAY)
def test_a_decay_that_is_none(arguments, kind, message):
    with pytest.raises(kind, match=message):
        InverseTime(*arguments)


@pytest.mark.parametrize("kind", [int, np.float32, np.int64, Fraction])
def test_any_real_number_will_do(kind):
    two = kind(2)
    assert (InverseTime(two, kind(4)), InverseTime(two, kind(4))(1)) == (InverseTime(2.0, 4.0), 0.2)
    assert as_schedule(two) == Constant(2.0)
    assert Cosine(two, steps=4) == Cosine(2.0, steps=4)
    assert repr(Cosine(np.float32(0.5), steps=4)) == "Cosine(rho=0.5, steps=4)"
    assert type(Every(two, k=1)(StepInfo(0))) is float
    k = {"setting": "nonconvex", "oracle": "exact", "beta": 2.0, "rho": 0.5, "steps": 9, "delta": 1.0}
    assert plan(**{**k, "beta": two}, accuracy=two) == plan(**k, accuracy=2.0)


NONE = [
    (lambda: T["t4"].bound(beta=None, rho=0.5, steps=10, delta=1.0), "t4: beta=None is a NoneType; beta must be given"),
    (lambda: P["trap"](theta=0.1, beta=None, rho=1.0), "trap: beta=None is a NoneType; beta must be given"),
    (lambda: plan(setting="nonconvex", beta=None, rho=1.0, steps=9, delta=1.0, sigma=1.0), "plan: beta=None is a NoneType"),
]


@pytest.mark.parametrize(("call", "message"), NONE)
def test_none_where_a_number_is_needed(call, message):
    with pytest.raises(TypeError, match=message):
        call()


BAD_PROBLEMS = [
    ("quadratic", {"curvatures": "abc"}, TypeError, "curvatures='abc' must be a list of numbers"),
    ("quadratic", {"curvatures": {1: 2}}, TypeError, r"curvatures=\{1: 2\} must be a list of numbers"),
    ("quadratic", {"curvatures": {1.0, 2.0}}, TypeError, "must be a list of numbers"),
    ("quadratic", {"curvatures": 2.0}, TypeError, "curvatures=2.0 must be a list of numbers"),
    ("quadratic", {"curvatures": b"x"}, TypeError, "must be a list of numbers"),
    ("quadratic", {"curvatures": [1.0, "a"]}, TypeError, r"curvatures\[1\]='a' is a str"),
    ("quadratic", {"curvatures": [1.0, True]}, TypeError, r"curvatures\[1\]=True is a bool"),
    ("quadratic", {"curvatures": [1.0, -1.0]}, ValueError, r"curvatures\[1\]=-1.0; .* must be a finite number > 0"),
    ("quadratic", {"curvatures": []}, ValueError, "at least one number"),
    ("quadratic", {"curvatures": [1e308]}, None, ""),
    ("quadratic", {"curvatures": np.array([1.0, 2.0])}, None, ""),
    ("logcosh", {"beta": 1.0, "dim": "abc"}, TypeError, "logcosh: dim='abc' is a str; dim must be an integer >= 1"),
    ("logcosh", {"beta": 1.0, "dim": 0}, ValueError, "logcosh: dim=0"),
    ("digits", {"l2": "abc"}, TypeError, "digits: l2='abc' is a str"),
    ("digits", {"l2": math.inf}, ValueError, "digits: l2=inf"),
    ("digits", {"batch": 1.5}, TypeError, "digits: batch=1.5 is a float"),
    ("digits", {"batch": [1]}, TypeError, r"digits: batch=\[1\] is a list"),
    ("e1", {"beta": 1.0, "mu": 0.1, "rho": 1e200}, ValueError, f"e1: beta=1, mu=0.1, rho=1e\\+200 {BEYOND}"),
    ("e3", {"p": 0.1, "rho": 1e200}, ValueError, f"e3: p=0.1, rho=1e\\+200 {BEYOND}"),
    ("trap", {"theta": 0.1, "beta": 1e200, "rho": 1.0}, ValueError, f"trap: .*beta=1e\\+200.* {BEYOND}"),
    ("trap-smooth", {"beta": 1.0, "rho": 1e200}, ValueError, f"trap-smooth: .*rho=1e\\+200 {BEYOND}"),
]


@pytest.mark.parametrize(("name", "keywords", "kind", "message"), BAD_PROBLEMS)
def test_what_problems_refuse(name, keywords, kind, message):
    if kind is None:
        assert P[name](**keywords).beta == max(keywords["curvatures"])
        return
    with pytest.raises(kind, match=message):
        P[name](**keywords)
