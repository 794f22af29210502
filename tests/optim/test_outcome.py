"""What the first gradients come to: the decision between the passes, as a table, and what follows from each."""

import itertools

import pytest

from sharpmin.optim._state import Phase, SAMState, Step, StepOutcome, Trip, outcome_of

TABLE = {  # needs_clean, finite, moves, all_ranks
    (False, False, False, False): StepOutcome.ONLY_PASS,
    (False, False, False, True): StepOutcome.ONLY_PASS,
    (False, False, True, False): StepOutcome.ONLY_PASS,
    (False, False, True, True): StepOutcome.ONLY_PASS,
    (False, True, False, False): StepOutcome.ONLY_PASS,
    (False, True, False, True): StepOutcome.ONLY_PASS,
    (False, True, True, False): StepOutcome.ONLY_PASS,
    (False, True, True, True): StepOutcome.ONLY_PASS,
    (True, False, False, False): StepOutcome.SKIP,
    (True, False, False, True): StepOutcome.SPOIL,
    (True, False, True, False): StepOutcome.SKIP,
    (True, False, True, True): StepOutcome.SPOIL,
    (True, True, False, False): StepOutcome.REST,
    (True, True, False, True): StepOutcome.JOIN,
    (True, True, True, False): StepOutcome.CLIMB,
    (True, True, True, True): StepOutcome.CLIMB,
}


@pytest.mark.parametrize("facts", list(itertools.product([False, True], repeat=4)), ids=str)
def test_the_table(facts):
    needs_clean, finite, moves, all_ranks = facts
    assert outcome_of(needs_clean=needs_clean, finite=finite, moves=moves, all_ranks=all_ranks) is TABLE[facts]


def test_every_outcome_is_reached_and_two_need_no_second_pass():
    assert set(TABLE.values()) == set(StepOutcome)
    assert {outcome for outcome in StepOutcome if not outcome.needs_second} == {StepOutcome.REST, StepOutcome.SKIP}


@pytest.mark.parametrize("trip", [None, Trip(StepOutcome.CLIMB)])
@pytest.mark.parametrize("ready", [False, True])
def test_the_phase_is_read_off_the_state(trip, ready):
    state = SAMState(step=Step(ready=ready), trip=trip)
    assert state.phase is (Phase.PERTURBED if trip else Phase.READY if ready else Phase.CLEAN)
