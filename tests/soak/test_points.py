"""Interrupts at some of the points of every door, other ones at each; `make soak ARGS="--points"` takes all of them."""

import gc
import sys

import pytest

from sharpmin.optim import _state, sam

from .points import DOORS, interrupts, own

STRIDE = {True: 97, False: 47}


def some(door, *, first):
    return interrupts(door, first=first, stride=STRIDE[first], offset=9 * DOORS.index(door))


@pytest.fixture(autouse=True)
def finalizers(monkeypatch):
    """An interrupt inside one is swallowed, as Python does it, and a step is not interrupted by those of other tests."""
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    gc.collect()


@pytest.mark.parametrize("first", [True, False], ids=["first step", "later step"])
@pytest.mark.parametrize("door", DOORS)
def test_an_interrupt_leaves_the_old_state_or_the_new(door, first):
    counts, wrong = some(door, first=first)
    assert not wrong, "\n".join(wrong)
    assert counts["w bit for bit"] >= 8


def test_the_points_are_those_of_the_package():
    """Neither of torch nor of these tests, where a clone in a folder called sharpmin holds all three."""

    def frame(file):
        found = {}
        exec(compile("import sys; frame = sys._getframe()", file, "exec"), found)
        return found["frame"]

    assert own(frame(sam.__file__))
    assert not own(frame("/home/me/sharpmin/.venv/lib/torch/optim/sgd.py"))
    assert not own(sys._getframe())


def way_back_forgotten(monkeypatch):
    """Whoever is interrupted on the way back finds nothing to go on with."""

    def rescue(state):
        state.trip = None

    monkeypatch.setattr(_state.SAMState, "rescue", rescue)


def step_not_given_up(monkeypatch):
    """What was noted of a step that failed stays for the next one."""
    monkeypatch.setattr(_state.SAMState, "give_up", lambda state: None)


@pytest.mark.parametrize("fault", [way_back_forgotten, step_not_given_up], ids=lambda f: f.__name__)
def test_a_fault_is_found(fault, monkeypatch):
    fault(monkeypatch)
    assert some("block", first=False)[1]
