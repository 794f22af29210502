"""What the first gradients come to: the decision between the passes, as a table, and what follows from each."""

import itertools

import pytest

from sharpmin.optim._state import Outcome, Phase, State, Step, Trip, outcome_of

TABLE = {  # needs_clean, finite, moves, all_ranks
    (False, False, False, False): Outcome.ONLY_PASS,
    (False, False, False, True): Outcome.ONLY_PASS,
    (False, False, True, False): Outcome.ONLY_PASS,
    (False, False, True, True): Outcome.ONLY_PASS,
    (False, True, False, False): Outcome.ONLY_PASS,
    (False, True, False, True): Outcome.ONLY_PASS,
    (False, True, True, False): Outcome.ONLY_PASS,
    (False, True, True, True): Outcome.ONLY_PASS,
    (True, False, False, False): Outcome.SKIP,
    (True, False, False, True): Outcome.SPOIL,
    (True, False, True, False): Outcome.SKIP,
    (True, False, True, True): Outcome.SPOIL,
    (True, True, False, False): Outcome.REST,
    (True, True, False, True): Outcome.JOIN,
    (True, True, True, False): Outcome.CLIMB,
    (True, True, True, True): Outcome.CLIMB,
}


@pytest.mark.parametrize("facts", list(itertools.product([False, True], repeat=4)), ids=str)
def test_the_table(facts):
    needs_clean, finite, moves, all_ranks = facts
    assert outcome_of(needs_clean=needs_clean, finite=finite, moves=moves, all_ranks=all_ranks) is TABLE[facts]


def test_every_outcome_is_reached_and_two_need_no_second_pass():
    assert set(TABLE.values()) == set(Outcome)
    assert {outcome for outcome in Outcome if not outcome.needs_second} == {Outcome.REST, Outcome.SKIP}


@pytest.mark.parametrize("trip", [None, Trip(Outcome.CLIMB)])
@pytest.mark.parametrize("ready", [False, True])
def test_the_phase_is_read_off_the_state(trip, ready):
    state = State(step=Step(ready=ready), trip=trip)
    assert state.phase is (Phase.PERTURBED if trip else Phase.READY if ready else Phase.CLEAN)
