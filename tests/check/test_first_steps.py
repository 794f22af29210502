"""`sharpmin.check` on a rho that is too large at the start: 2 + sin(x) from 0, whose slope at pi / 2 is 0."""

import math

import pytest
import torch
from right_sam import Right
from test_own_setup import only
from torch import nn

import sharpmin as sm

BATCH = torch.zeros(1, 1), torch.zeros(1)
HALF = math.pi / 2


class Sine(nn.Module):
    """Its output is 2 + sin(w)."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, x):
        return 2 + self.w.sin()


def loss_fn(output, target):
    return output.sum()


def asked(door="block", lr=0.2, momentum=0.0, **settings):
    model = Sine()
    return only(
        sm.check(
            model, loss_fn, BATCH, sm.SAM(torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum), **settings), door=door
        ),
        "first-steps",
    )


def descent(slope):
    """2 + sin(w) after ten steps by hand."""
    w = 0.0
    for _ in range(10):
        w -= 0.2 * slope(w)
    return f"{2 + math.sin(w):.4g}"


@pytest.mark.parametrize("door", ["block", "clean", "closure", "two-step"])
def test_a_run_that_rho_holds_where_it_is(door):
    """sign(g) = 1 at every w within reach, so the step is along cos(w + pi / 2) = 0."""
    outcome = asked(door, rho=HALF)
    assert outcome.status == "failed"
    assert outcome.observed == f"10 steps on this batch bring the loss from 2 to 2, with rho = 0 to {descent(math.cos)}"
    assert "sharpmin.rho.Tail(rho, start=0.1, total=steps)" in outcome.fix


CURES = {
    "smaller": {"rho": HALF / 5},
    "later": {"rho": sm.rho.Tail(HALF, start=10)},
    "none": {"rho": 0.0},
}


@pytest.mark.parametrize("settings", CURES.values(), ids=CURES)
def test_what_the_fix_says_helps(settings):
    outcome = asked(**settings)
    assert outcome.status == "passed"
    rho = settings["rho"] if isinstance(settings["rho"], float) else 0.0
    assert f"to {descent(lambda w: math.cos(w + rho))}, with rho = 0 to {descent(math.cos)}" in outcome.observed


def test_a_loss_that_hardly_moves_without_sam_is_no_evidence():
    assert asked(rho=HALF, lr=1e-4).status == "passed"


def test_one_pass_has_nothing_to_ask():
    assert asked(rho=HALF, ascent=sm.Momentum(), momentum=0.9).status == "not applicable"


def test_an_optimizer_of_others():
    model = Sine()
    outcome = only(sm.check(model, loss_fn, BATCH, Right(model.parameters(), torch.optim.SGD, rho=HALF, lr=0.2)), "first-steps")
    assert (outcome.status, "the first tenth of the run" in outcome.fix) == ("failed", True)
