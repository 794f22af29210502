"""The live line: one line written over, seldom enough, ended once, and nothing where nobody looks."""

import gc
import re
from io import StringIO

import pytest
import torch
from rich.console import Console

import sharpmin as sm
from sharpmin.report import Live

from ..watched_runs import quadratic

BACK = "\r\x1b[2K"


class Clock:
    def __init__(self, tick):
        self.now, self.tick = 0.0, tick

    def __call__(self):
        self.now += self.tick
        return self.now


def terminal(width=120, **options):
    return Console(file=StringIO(), force_terminal=True, width=width, color_system=None, **options)


def lines(console):
    """What was shown, one update after the other."""
    return [re.sub(r"\x1b\[[0-9;]*[mK]", "", text).rstrip() for text in console.file.getvalue().split(BACK)[1:]]


def watched(console, steps=300, tick=1.0, **options):
    with Live(console, clock=Clock(tick)) as live:
        quadratic([live], rho=0.3, lr=0.002, steps=steps, block=20, **options)
    return lines(console)


def test_the_line_says_step_loss_radius_share_and_verdict():
    told = watched(terminal())
    assert re.fullmatch(r"step 0  loss 0\.75  rho 0\.3  lr 0\.002  block 0 of 5", told[0])
    assert "block 4 of 5" in told[99]
    assert re.fullmatch(r"step 299  loss [\d.]+  rho 0\.3  lr 0\.002  kappa -\d+%  SAM speeds the descent up", told[-1])
    assert "\n" not in "".join(told)  # written over, not under each other


def test_it_ends_the_line_once():
    console = terminal()
    live = Live(console, clock=Clock(1.0))
    quadratic([live], rho=0.3, steps=5)
    for _ in range(2):
        live.close()
    live({"kind": "step", "step": 9})  # too late: nothing
    assert console.file.getvalue().count("\n") == 1
    assert console.file.getvalue().endswith("\n")


def test_a_run_that_forgets_it_ends_the_line_too():
    console = terminal()
    quadratic([Live(console)], rho=0.3, steps=5)
    gc.collect()
    assert console.file.getvalue().endswith("\n")


def test_four_updates_a_second():
    told = watched(terminal(), steps=1000, tick=1 / 1000)  # the clock is read once a step, twice where the line is written
    assert 4 <= len(told) <= 6


def test_a_narrow_terminal_gets_one_line():
    for line in watched(terminal(width=40)):
        assert len(line) <= 39


@pytest.mark.parametrize("console", [Console(file=StringIO()), Console(file=StringIO(), force_terminal=False)])
def test_nothing_is_written_where_there_is_no_terminal(console):
    assert watched(console) == []
    assert console.file.getvalue() == ""


def test_a_dumb_terminal_gets_nothing():
    console = terminal(_environ={"TERM": "dumb"})
    watched(console)
    assert console.file.getvalue() == ""


def test_other_streams_are_left_alone(capsys):
    """Whoever holds stdout or stderr, such as a progress bar, holds it still."""
    import sys

    before = sys.stdout, sys.stderr
    with Live(terminal(), clock=Clock(1.0)) as live:
        opt = sm.SAM(torch.optim.SGD([w := torch.nn.Parameter(torch.ones(2))], lr=0.1), rho=0.1)
        sm.watch(opt, to=live)

        def closure():
            w.grad = w.detach().clone()
            return (w.detach() ** 2).sum() / 2

        opt.step(closure)
        assert (sys.stdout, sys.stderr) == before
        sys.stderr.write("\r 40%|####")
    assert capsys.readouterr() == ("", "\r 40%|####")


def test_after_a_change_of_the_learning_rate_it_goes_on():
    told = watched(terminal(), drop=150)
    assert all("kappa" in line for line in told[120:])


def test_an_ascii_terminal():
    from io import BytesIO, TextIOWrapper

    file = TextIOWrapper(BytesIO(), encoding="ascii")
    with Live(Console(file=file, force_terminal=True, width=30), clock=Clock(1.0)) as live:
        quadratic([live], rho=0.3, lr=0.002, steps=300, block=20)
    file.flush()
    assert b"step 299" in file.buffer.getvalue()
