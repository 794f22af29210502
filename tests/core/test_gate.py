"""`rho.Gate`: what it decides and remembers, against its equations; what it refuses; how it travels."""

import copy
import math
import pickle

import pytest

import sharpmin as sm
from sharpmin import rho
from sharpmin.core.rho import StepInfo
from sharpmin.theory import problems, simulate

GATE = rho.Gate(0.05, total=10, delta=0.9)


def decisions(gate, norms):
    """Step by step, as an optimizer asks; and what is remembered at the end."""
    memory, out = dict.fromkeys(gate.remembers, 0.0), []
    for step, norm in enumerate(norms):
        info = StepInfo(step, 0.1, norm, {}, memory)
        out.append(gate(info))
        memory = gate.remember(info)
    return out, memory


def by_hand(norms, total, delta, first, last):
    mean = variance = 0.0
    out = []
    for step, norm in enumerate(norms):
        mean = delta * mean + (1 - delta) * norm**2
        variance = delta * variance + (1 - delta) * (norm**2 - mean) ** 2
        share = min(1.0, step / total)
        out.append(norm**2 >= mean + (first * (1 - share) + last * share) * math.sqrt(variance))
    return out, {"mean": mean, "variance": variance}


NORMS = [1.0, 1.1, 0.9, 0.2, 3.0, 0.1, 1.0, 1.0, 2.0, 0.5, 0.4, 0.6, 0.55, 0.0, 1.0]


@pytest.mark.parametrize(("delta", "first", "last"), [(0.9, 1.0, -1.0), (0.5, -1.0, 1.0), (0.0, 1.0, 1.0), (0.7, 0.5, 0.5)])
def test_its_equations(delta, first, last):
    opened, kept = by_hand(NORMS, 10, delta, first, last)
    found, memory = decisions(rho.Gate(0.05, 10, delta, first, last), NORMS)
    assert found == [0.05 if is_open else 0.0 for is_open in opened]
    assert memory == pytest.approx(kept, rel=1e-14)
    assert delta == 0.0 or len(set(found)) == 2  # it says yes and no


def test_a_schedule_inside():
    gate = rho.Gate(rho.Every(0.05, k=2), total=10)
    assert [gate.active(step, 0.1) for step in range(4)] == [True, False, True, False]
    assert decisions(gate, [1.0])[0] == [0.05]


@pytest.mark.parametrize("norm", [math.inf, math.nan, 1e200])
def test_a_norm_that_is_not_finite_is_not_remembered(norm):
    memory = {"mean": 2.0, "variance": 0.5}
    assert GATE.remember(StepInfo(3, 0.1, norm, {}, memory)) == memory


def test_a_norm_whose_square_overflows_opens_it():
    assert GATE(StepInfo(3, 0.1, 1e200, {}, {"mean": 2.0, "variance": 0.5})) == 0.05


def test_it_prints_as_its_constructor_and_travels():
    assert eval(repr(GATE), vars(rho).copy()) == GATE
    for clone in (pickle.loads(pickle.dumps(GATE)), copy.deepcopy(GATE)):
        assert (clone, hash(clone)) == (GATE, hash(GATE))


BAD = {
    "total": (lambda: rho.Gate(0.05, total=0), ValueError, "Gate: total=0; total must be an integer >= 1"),
    "share": (lambda: rho.Gate(0.05, total=0.5), TypeError, "Gate: total=0.5 is a float"),
    "delta": (lambda: rho.Gate(0.05, total=9, delta=1.0), ValueError, "Gate: delta=1.0; delta must be in [0, 1)"),
    "first": (lambda: rho.Gate(0.05, total=9, first=math.inf), ValueError, "Gate: first=inf; first must be a finite number"),
    "last": (lambda: rho.Gate(0.05, total=9, last="1"), TypeError, "Gate: last='1' is a str"),
    "rho": (lambda: rho.Gate(-0.05, total=9), ValueError, "Gate: rho=-0.05; rho must be"),
    "hidden": (lambda: rho.Every(GATE, k=2), ValueError, "put it outside: Gate(Every(...), ...)"),
    "in itself": (lambda: rho.Gate(GATE, total=9), ValueError, "is stateful, and Gate would hide steps from it"),
    "alone": (lambda: GATE(StepInfo(0, 0.1, 1.0)), ValueError, "use it in one, such as sharpmin.SAM(base, rho=...)"),
    "in the laboratory": (
        lambda: simulate(problems()["product"](), method="sam", lr=0.1, rho=GATE, steps=3, x0=[1.0, 2.0]),
        ValueError,
        "need an optimizer to store them",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_refused(name):
    build, error, message = BAD[name]
    with pytest.raises(error) as caught:
        build()
    assert message in str(caught.value)


def test_the_command_line_does_not_offer_it():
    from sharpmin.cli._schedules import RHO

    assert "Gate" not in RHO
    assert {"Every", "Capped"} <= set(RHO)
    assert sm.rho.Gate is rho.Gate
