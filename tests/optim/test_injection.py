"""An exception at every place where somebody else's code runs in a step, by every door, in a first and in a later step.

Whatever raises: it is what the user sees; the weights are w, or every step is refused until `abort()` has brought w back;
buffers, random numbers, and the state of the base are where a loop by hand leaves them, now and after the steps that follow.
"""

from functools import cache

import pytest
import torch

import sharpmin as sm

from ..soak.fuses import ByHand, Ours

DOORS = ["block", "guarded", "closure", "raw", "two_step"]
UNDER_A_SCALER = ["block", "guarded", "raw"]
BY_HAND = ["raw", "two_step"]  # these doors leave the way back to the loop
OWN = {"forward": "forward", "loss": "loss", "backward": "backward", "scale": "loss"}  # by hand at the same call
STATIONS = ["start", "between", "base before"]  # where the loop by hand raises, by the passes that have begun
LATER = {
    **dict.fromkeys(["base after", "base post hook"], "base after"),
    **dict.fromkeys(["opt post hook", "step after", "update before", "update after"], "done"),
}
PLACES = [
    *OWN,
    "rho",
    "geometry",
    "ascent",
    "buffers",
    "descent",
    "writer",
    "opt pre hook",
    "base pre hook",
    "base before",
    *LATER,
]
SCALED = ["scale", "unscale_ before", "unscale_ after", "step before", "step after", "update before", "update after"]
UNFINISHED = ("opt post hook", "step after", "update before")  # the step is made, and the scaler waits for its update()


@cache
def calls(door, scaled, first):
    """The calls of all places in a step, each with where the loop by hand raises."""
    run, out = Ours(door, scaled), {}
    for i in range(1 if first else 2):
        run.step(i)
    for (place, call), passes in run.fuse.order.items():
        own = (OWN[place], call) if place in OWN else (LATER.get(place, STATIONS[passes]), 0)
        out.setdefault(place, []).append(own)
    return out


def agree(ours, hand):
    """Buffers, random numbers, and the state of the base, bit for bit."""
    return all(
        (a is None and b is None) or torch.equal(a, b)
        for one, other in zip((ours[0], [ours[1]], ours[2]), (hand[0], [hand[1]], hand[2]), strict=True)
        for a, b in zip(one, other, strict=True)
    )


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def bring_back(ours, hand, door):
    """A loop that made its own way up must come back by itself; until then everything is refused by one clear error."""
    if same(ours.weights(), hand.weights()):
        return
    assert door in BY_HAND
    for call in (ours.opt.step, ours.opt.perturb, ours.opt.state_dict, ours.opt.clean().__enter__):
        with pytest.raises(sm.PhaseError, match=r"abort\(\)"):
            call()
    ours.opt.abort()


def check(door, scaled, place, call, by_hand, *, first):
    """One exception, and what comes after it."""
    ours, hand = Ours(door, scaled), ByHand()
    at, again = 0 if first else 1, (call + first) % 2 == 0  # the batch is repeated, or left out
    for i in range(at):
        ours.step(i)
        hand.step(i)
    assert hand.fails(at, by_hand)
    wanted = hand.moved()
    assert ours.fails(at, (place, call)), "the user has not seen the exception"
    bring_back(ours, hand, door)
    assert torch.is_grad_enabled()
    assert same(ours.weights(), hand.weights())
    assert agree(ours.moved(), wanted)
    if scaled and place in UNFINISHED:
        ours.scaler.update()
    for i in (at, at + 1) if again else (at + 1, at + 2):
        ours.step(i)
        found = ours.moved()
        hand.step(i)
        assert ours.opt.last.stepped
        assert same(ours.weights(), hand.weights())
        assert agree(found, hand.moved())


@pytest.mark.parametrize(("door", "scaled"), [*((door, False) for door in DOORS), *((door, True) for door in UNDER_A_SCALER)])
def test_without_an_exception_both_agree(door, scaled):
    ours, hand = Ours(door, scaled), ByHand()
    for i in range(4):
        ours.step(i)
        found = ours.moved()
        hand.step(i)
        assert same(ours.weights(), hand.weights())
        assert agree(found, hand.moved())


FIRST = pytest.mark.parametrize("first", [True, False], ids=["first step", "later step"])


@FIRST
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("place", [place for place in PLACES if place not in SCALED])
def test_somebody_raises(place, door, first):
    for call, own in enumerate(calls(door, False, first)[place]):
        check(door, False, place, call, own, first=first)


@FIRST
@pytest.mark.parametrize("door", UNDER_A_SCALER)
@pytest.mark.parametrize("place", list(dict.fromkeys([*PLACES, *SCALED])))
def test_somebody_raises_under_a_scaler(place, door, first):
    for call, own in enumerate(calls(door, True, first)[place]):
        check(door, True, place, call, own, first=first)
