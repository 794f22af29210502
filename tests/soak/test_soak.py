"""The soak itself: its first cases agree with the oracle, and a SAM with a fault does not get through them."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from sharpmin.optim import _groups, _perturbation, _plan, _state, _trip

from .__main__ import main
from .beside import soak
from .draw import SHAPES, TABLE, USES, draw

SEEDS = range(75)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_case(seed):
    case, error = soak(seed)
    assert error is None, f"\n{error}\n{case.describe()}"


def test_the_first_cases_draw_every_choice():
    drawn = Counter(pair for seed in SEEDS for pair in draw(seed).drawn())
    missing = {(name, str(value)) for name, values in TABLE.items() for value in values} - set(drawn)
    assert missing == set()
    assert {("use", use) for use in USES} | {("shape", shape) for shape in SHAPES} <= set(drawn)


def norm_per_group(monkeypatch):
    """Every group has the length of its own gradient."""

    def move(self, rounding, lines):
        for group in self.groups:
            if group.measure:
                group.move(group.measure, rounding, lines)

    monkeypatch.setattr(_perturbation.Perturbation, "move", move)


def restore_by_subtraction(monkeypatch):
    """w comes back as (w + e) - e."""
    real = _state.Trip.come_back

    def come_back(trip):
        weights, before = trip.held
        moved = [p.detach().clone() for p in weights]
        real(trip)
        with torch.no_grad():
            for p, m, w in zip(weights, moved, before, strict=True):
                p.copy_(m - (m - w))

    monkeypatch.setattr(_state.Trip, "come_back", come_back)


def one_second_gradient_dropped(monkeypatch):
    """On the fourth step the base sees the first gradient."""
    real = _trip._take_second

    def take_second(passes, trip, second, compared, moves):
        real(passes, trip, second, compared, moves)
        if passes.groups.count() == 3 and compared is not None:
            passes.groups.put(compared)

    monkeypatch.setattr(_trip, "_take_second", take_second)


def a_clock_that_jumps(monkeypatch):
    """The second step counts twice."""
    real = _groups.Groups.take_step

    def take_step(self, **counted):
        real(self, **counted)
        if self.count() == 2:
            real(self, **counted)

    monkeypatch.setattr(_groups.Groups, "take_step", take_step)


def rho_lost_in_a_checkpoint(monkeypatch):
    """A number is not state."""
    real = _groups.Groups.take_over

    def take_over(self, saved, live):
        found = real(self, saved, live)
        for group, rho in zip(self, live, strict=True):
            group["rho"] = rho
        return found

    monkeypatch.setattr(_groups.Groups, "take_over", take_over)


def maximize_ignored(monkeypatch):
    """The ascent goes down where the base goes up."""
    monkeypatch.setattr(_perturbation, "on_present", lambda _, grads: grads)


def buffers_that_move_in_both_passes(monkeypatch):
    """The second pass moves them again."""
    monkeypatch.setattr(_trip.Buffers, "put_back", lambda self: None)


def a_scaler_that_is_not_told(monkeypatch):
    """The first gradients stay scaled."""
    monkeypatch.setattr(_plan, "_unscale", lambda *_: None)


FAULTS = [
    *(norm_per_group, restore_by_subtraction, one_second_gradient_dropped, a_clock_that_jumps),
    *(rho_lost_in_a_checkpoint, maximize_ignored, buffers_that_move_in_both_passes, a_scaler_that_is_not_told),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.__name__)
def test_a_fault_is_found(fault, monkeypatch):
    """By its numbers: a fault whose own code no longer fits raises, and shows nothing."""
    fault(monkeypatch)
    assert any("Error: " not in (soak(seed)[1] or "Error: ") for seed in reversed(SEEDS))


def test_what_a_failure_says(monkeypatch, capsys):
    one_second_gradient_dropped(monkeypatch)
    seed = next(seed for seed in SEEDS if soak(seed)[1] is not None)
    assert main(["--case", str(seed)]) == 1
    said = capsys.readouterr().out
    assert f"case {seed} failed at step " in said
    assert f'make soak ARGS="--case {seed}"' in said
    assert "geometry: " in said
    assert "1 cases of 7 steps" in said


def test_what_a_good_run_says(capsys):
    assert main(["--seed", "3", "--cases", "2"]) == 0
    said = capsys.readouterr().out
    assert "2 cases of 7 steps from seed 3, 0 failed" in said
    assert "  door: " in said


def test_real_signals_at_random_moments():
    """In a child; w is back after every one of them, and the next step is the one by hand."""
    command = [sys.executable, "-m", "soak", "--interrupts", "--child", "--minutes", "2", "--cases", "4"]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"(\d+) interrupts tried in \d+ cases, 0 failed", done.stdout)
    assert found is not None
    assert int(found[1]) >= 50
    assert "w bit for bit: " in done.stdout


BROKEN = """
import sys
from sharpmin.optim._block import PerturbedBlock
real = PerturbedBlock.__exit__
PerturbedBlock.__exit__ = lambda own, kind, *rest: None if kind else real(own, kind, *rest)
PerturbedBlock.__del__ = lambda own: None
from soak.__main__ import main
sys.exit(main(["--interrupts", "--child", "--minutes", "2", "--cases", "60"]))
"""


def test_a_block_that_leaves_w_plus_e_behind_is_found_by_signals():
    tests = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", BROKEN], cwd=tests, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "the weights are not w after the block or the closure has been interrupted" in done.stdout
