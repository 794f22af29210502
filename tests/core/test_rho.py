"""The schedules: values, the promise of `active`, what they refuse, how they print and travel."""

import copy
import dataclasses
import importlib
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sharpmin import rho
from sharpmin.core.rho import RhoSchedule, StepInfo, as_schedule

SIZES = st.just(0.0) | st.floats(1e-6, 1e3) | st.integers(0, 9)
POSITIVE = st.floats(1e-3, 1e3)
COUNTS = st.integers(1, 50)
LEAVES = st.one_of(
    st.builds(rho.Constant, SIZES),
    st.builds(rho.Cosine, SIZES, COUNTS),
    st.builds(rho.InverseSqrt, SIZES),
    st.builds(rho.ProportionalToLR, SIZES, POSITIVE, st.floats(0, 3)),
)
SCHEDULES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(rho.Every, SIZES | inner, COUNTS),
        st.builds(rho.Tail, SIZES | inner, COUNTS),
        st.builds(rho.Until, SIZES | inner, COUNTS),
        st.builds(rho.Unnormalized, SIZES | inner),
        st.builds(rho.Capped, SIZES | inner, SIZES),
    ),
    max_leaves=4,
)
STEPS, RATES, NORMS = st.integers(0, 100), st.just(0.0) | POSITIVE, st.floats(1e-3, 1e6)


@given(SCHEDULES, STEPS, RATES, st.lists(NORMS, min_size=1, max_size=5))
def test_inactive_iff_the_python_float_zero_for_every_positive_norm(schedule, step, lr, norms):
    values = [schedule(StepInfo(step, lr, norm)) for norm in [1.0, *norms]]
    assert {type(value) for value in values} == {float}
    assert schedule.active(step, lr) is any(value != 0.0 for value in values)
    assert schedule.active(step, lr) is all(value > 0.0 for value in values)


@given(SCHEDULES, STEPS, RATES, NORMS)
def test_floats_tensors_and_lanes_agree(schedule, step, lr, norm):
    value = schedule(StepInfo(step, lr, norm))
    tensor = schedule(StepInfo(step, lr, torch.tensor(norm, dtype=torch.float64)))
    lanes = schedule(StepInfo(step, lr, np.array([norm, 2 * norm])))
    doubled = schedule(StepInfo(step, lr, 2 * norm))
    assert float(tensor) == pytest.approx(value, rel=1e-14)
    assert np.broadcast_to(lanes, 2).tolist() == pytest.approx([value, doubled], rel=1e-14)


@given(SCHEDULES)
def test_a_schedule_prints_as_its_constructor(schedule):
    assert eval(repr(schedule), vars(rho).copy()) == schedule


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@given(schedule=SCHEDULES)
def test_a_schedule_travels(protocol, schedule):
    for clone in (pickle.loads(pickle.dumps(schedule, protocol)), copy.deepcopy(schedule)):
        assert clone == schedule
        assert (hash(clone), repr(clone)) == (hash(schedule), repr(schedule))


@pytest.mark.parametrize(
    ("schedule", "lr", "norm", "values"),
    [
        (rho.Constant(0.25), 0.1, 3.0, [0.25] * 5),
        (rho.Constant(1), 0.1, 3.0, [1.0] * 5),
        (rho.Cosine(0.5, steps=4), 0.1, 3.0, [0.5, 0.25 + 0.25 * 0.5**0.5, 0.25, 0.25 - 0.25 * 0.5**0.5, 0.0]),
        (rho.Cosine(0.5, steps=1), 0.1, 3.0, [0.5, 0.0, 0.0, 0.0, 0.0]),
        (rho.InverseSqrt(0.6), 0.1, 3.0, [0.6, 0.6 / 2**0.5, 0.6 / 3**0.5, 0.3, 0.6 / 5**0.5]),
        (rho.ProportionalToLR(0.5, lr=0.1), 0.02, 3.0, [0.1] * 5),
        (rho.ProportionalToLR(0.5, lr=0.1, power=2), 0.05, 3.0, [0.125] * 5),
        (rho.ProportionalToLR(0.5, lr=0.1, power=0), 0.0, 3.0, [0.5] * 5),
        (rho.ProportionalToLR(0.5, lr=0.1), 0.0, 3.0, [0.0] * 5),
        (rho.Every(0.5, k=2), 0.1, 3.0, [0.5, 0.0, 0.5, 0.0, 0.5]),
        (rho.Every(rho.InverseSqrt(0.6), k=3), 0.1, 3.0, [0.6, 0.0, 0.0, 0.3, 0.0]),
        (rho.Tail(0.5, start=3), 0.1, 3.0, [0.0, 0.0, 0.0, 0.5, 0.5]),
        (rho.Tail(rho.InverseSqrt(0.6), start=1), 0.1, 3.0, [0.0, 0.6 / 2**0.5, 0.6 / 3**0.5, 0.3, 0.6 / 5**0.5]),
        (rho.Until(0.5, stop=3), 0.1, 3.0, [0.5, 0.5, 0.5, 0.0, 0.0]),
        (rho.Until(0.5, stop=0.3, total=10), 0.1, 3.0, [0.5, 0.5, 0.5, 0.0, 0.0]),
        (rho.Tail(0.5, start=0.3, total=10), 0.1, 3.0, [0.0, 0.0, 0.0, 0.5, 0.5]),
        (rho.Ramp(0.5, start=1, stop=3), 0.1, 3.0, [0.0, 0.0, 0.25, 0.5, 0.5]),
        (rho.Ramp(rho.Unnormalized(0.5), start=0.1, stop=0.5, total=10), 0.1, 2.0, [0.0, 0.0, 0.25, 0.5, 0.75]),
        (rho.Until(rho.Unnormalized(0.5), stop=1), 0.1, 3.0, [1.5, 0.0, 0.0, 0.0, 0.0]),
        (rho.Until(rho.Tail(0.5, start=1), stop=3), 0.1, 3.0, [0.0, 0.5, 0.5, 0.0, 0.0]),
        (rho.Unnormalized(0.5), 0.1, 3.0, [1.5] * 5),
        (rho.Unnormalized(rho.Every(0.5, k=4)), 0.1, 3.0, [1.5, 0.0, 0.0, 0.0, 1.5]),
        (rho.Capped(0.5, c=0.1), 0.1, 3.0, [0.3] * 5),
        (rho.Capped(0.5, c=0.1), 0.1, 9.0, [0.5] * 5),
        (rho.Capped(rho.InverseSqrt(0.6), c=0.125), 0.1, 4.0, [0.5, 0.6 / 2**0.5, 0.6 / 3**0.5, 0.3, 0.6 / 5**0.5]),
    ],
    ids=str,
)
def test_values(schedule, lr, norm, values):
    assert [schedule(StepInfo(step, lr, norm)) for step in range(5)] == pytest.approx(values, abs=1e-15)
    assert [schedule.active(step, lr) for step in range(5)] == [value > 0 for value in values]


@pytest.mark.parametrize("norm", [0.0, torch.zeros((), dtype=torch.float64), np.zeros(3)])
@pytest.mark.parametrize("schedule", [rho.Unnormalized(0.5), rho.Capped(0.5, c=2.0)], ids=str)
def test_what_follows_the_norm_vanishes_with_it(schedule, norm):
    assert np.all(np.asarray(schedule(StepInfo(0, 0.1, norm))) == 0.0)


BAD = {
    "negative": (lambda: rho.Constant(-1.0), ValueError, "Constant: rho=-1.0; rho must be a finite number >= 0"),
    "nan": (lambda: rho.InverseSqrt(math.nan), ValueError, "InverseSqrt: rho=nan; rho must be a finite number >= 0"),
    "infinite": (lambda: rho.Unnormalized(math.inf), ValueError, "Unnormalized: rho=inf; rho must be a finite number >= 0"),
    "text": (lambda: rho.Constant("1"), TypeError, "Constant: rho='1' is a str; rho must be a finite number >= 0"),
    "bool": (lambda: rho.Cosine(True, steps=3), TypeError, "Cosine: rho=True is a bool; rho must be a finite number >= 0"),
    "no steps": (lambda: rho.Cosine(0.5, steps=0), ValueError, "Cosine: steps=0; steps must be an integer >= 1"),
    "half steps": (
        lambda: rho.Cosine(0.5, steps=2.0),
        TypeError,
        "Cosine: steps=2.0 is a float; steps must be an integer >= 1",
    ),
    "bool steps": (
        lambda: rho.Cosine(0.5, steps=True),
        TypeError,
        "Cosine: steps=True is a bool; steps must be an integer >= 1",
    ),
    "k": (lambda: rho.Every(0.5, k=0), ValueError, "Every: k=0; k must be an integer >= 1"),
    "start": (lambda: rho.Tail(0.5, start=0), ValueError, "Tail: start=0; start must be an integer >= 1"),
    "stop": (lambda: rho.Until(0.5, stop=2.0), TypeError, "Until: stop=2.0 is a float; stop must be an integer >= 1"),
    "share without total": (
        lambda: rho.Tail(0.5, start=0.1),
        TypeError,
        "Tail: start=0.1 is a float; start must be an integer",
    ),
    "share above 1": (
        lambda: rho.Until(0.5, stop=1.5, total=9),
        ValueError,
        "Until: stop=1.5 with total=9; stop must be a share",
    ),
    "step and total": (lambda: rho.Tail(0.5, start=100, total=1000), ValueError, "start must be a share of the steps, below 1"),
    "negative share": (lambda: rho.Ramp(0.5, start=-0.1, stop=0.5, total=9), ValueError, "start must be a finite number >= 0"),
    "no total": (lambda: rho.Tail(0.5, start=0.5, total=0), ValueError, "Tail: total=0; total must be an integer >= 1"),
    "backwards": (lambda: rho.Ramp(0.5, start=5, stop=5), ValueError, "Ramp: start=5, stop=5; start must come before stop"),
    "nested in until": (lambda: rho.Until(-0.5, stop=2), ValueError, "Until: rho=-0.5; rho must be a finite number >= 0"),
    "nested in tail": (lambda: rho.Tail("0.5", start=2), TypeError, "Tail: rho='0.5' is a str; give a number such as 0.05"),
    "lr": (lambda: rho.ProportionalToLR(0.5, lr=0.0), ValueError, "lr=0.0; lr must be a finite number > 0"),
    "power": (lambda: rho.ProportionalToLR(0.5, lr=0.1, power=-1), ValueError, "power=-1; power must be a finite number >= 0"),
    "c": (lambda: rho.Capped(0.5, c=-0.1), ValueError, "Capped: c=-0.1; c must be a finite number >= 0"),
    "nested": (lambda: rho.Every(-0.5, k=2), ValueError, "Every: rho=-0.5; rho must be a finite number >= 0"),
    "nested text": (lambda: rho.Capped("0.5", c=1.0), TypeError, "Capped: rho='0.5' is a str; give a number such as 0.05"),
    "schedule for a number": (
        lambda: rho.Cosine(rho.Constant(0.5), steps=3),
        TypeError,
        "Cosine: rho=Constant(rho=0.5) is a Con",
    ),
    "schedule for c": (lambda: rho.Capped(0.5, c=rho.Constant(0.5)), TypeError, "Capped: c=Constant(rho=0.5) is a Constant"),
    "schedule for k": (lambda: rho.Every(0.5, k=rho.Constant(2)), TypeError, "Every: k=Constant(rho=2) is a Constant"),
}


@pytest.mark.parametrize("name", BAD)
def test_refused(name):
    build, error, message = BAD[name]
    with pytest.raises(error) as caught:
        build()
    assert message in str(caught.value)


def test_schedules_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        rho.Constant(0.5).rho = 1.0


@pytest.mark.parametrize("value", [0, 0.5, 1, np.float64(0.5)])
def test_a_number_becomes_a_constant(value):
    assert as_schedule(value) == rho.Constant(float(value))


def test_a_schedule_stays_itself():
    schedule = rho.Every(0.5, k=2)
    assert as_schedule(schedule) is schedule


@dataclasses.dataclass(frozen=True)
class Table(RhoSchedule):
    """A schedule that a user may write: its own fields, no number among them."""

    values: tuple[float, ...]
    name: str = "mine"

    def __call__(self, info):
        return self.values[info.step]


def test_a_schedule_of_one_s_own():
    schedule = Table((0.5, 0.0, -1.0, math.nan))
    assert [schedule.active(step, 0.1) for step in range(4)] == [True, False, True, True]
    assert rho.Every(schedule, k=1)(StepInfo(0)) == 0.5


def test_sharpmin_rho_is_a_module_with_every_schedule():
    import sharpmin
    from sharpmin.core import rho as core

    kinds = {n for n, v in vars(core).items() if isinstance(v, type) and issubclass(v, RhoSchedule)}
    assert kinds | {"Rho", "StepInfo"} == set(rho.__all__)
    assert all(getattr(rho, name) is getattr(core, name) for name in rho.__all__)
    assert importlib.import_module("sharpmin.rho") is rho is sharpmin.rho
    assert pickle.loads(pickle.dumps(rho.Constant(0.5))) == core.Constant(0.5)
