"""How far a command is: the time to go as a function of what is done, lines that count up to the total, a bar on a terminal."""

import io
import itertools
import re
import threading
import time

import pytest
from rich.console import Console

from sharpmin.cli import _progress, main
from sharpmin.cli._progress import LINES, due, duration, heartbeat, progress, remaining, to_go


@pytest.mark.parametrize(
    ("done", "total", "elapsed", "left", "words"),
    [
        (0, 90, 12.0, None, ""),
        (0, 0, 0.0, None, ""),
        (1, 90, 1.5, 133.5, "about 2 min 14 s to go"),
        (45, 90, 70.0, 70.0, "about 1 min 10 s to go"),
        (89, 90, 178.0, 2.0, "about 2 s to go"),
        (90, 90, 180.0, 0.0, ""),
        (1, 18000, 1.0, 17999.0, "about 5 h 0 min to go"),
    ],
)
def test_the_time_to_go(done, total, elapsed, left, words):
    assert remaining(done, total, elapsed) == (None if left is None else pytest.approx(left, rel=1e-12))
    assert to_go(done, total, elapsed) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (3599.4, "59 min 59 s"), (3599.6, "1 h 0 min"),
        (7229.0, "2 h 0 min"), (7231.0, "2 h 1 min"),
    ],
)  # fmt: skip
def test_durations(seconds, words):
    assert duration(seconds) == words


@pytest.mark.parametrize("total", [5, 8, 9, 10, 11, 90, 1000])
def test_a_line_for_every_tenth_and_one_for_the_last(total):
    lines = [done for done in range(1, total + 1) if due(done, total)]
    assert len(lines) == min(total, LINES)
    assert lines[-1] == total
    gaps = [b - a for a, b in zip([0, *lines], lines, strict=False)]
    assert max(gaps) - min(gaps) <= 1


def follow(total, finished=0, seconds=2, **console):
    """What is said of work; every look at the clock is so many seconds later."""
    clock, out = itertools.count(0, seconds), io.StringIO()
    with progress(
        "digits", "runs", total, finished=finished, console=Console(file=out, **console), clock=clock.__next__
    ) as counter:
        for piece in counter.each(range(total - finished)):
            counter.doing(f"run {piece}")
            counter.bar.refresh()  # which a terminal does ten times a second
    return out.getvalue()


def test_lines_count_up_to_the_total():
    lines = follow(40).splitlines()
    assert lines[0] == "digits: 4 of 40 runs, 8 s, about 1 min 12 s to go"
    assert lines[-1] == "digits: 40 of 40 runs, 1 min 20 s"
    assert [int(re.match(r"digits: (\d+) of 40 runs, ", line)[1]) for line in lines] == list(range(4, 41, 4))
    assert all(re.search(r", about .* to go$", line) for line in lines[:-1])


def test_what_an_earlier_run_has_done_does_not_count_for_the_pace():
    assert follow(10, finished=8, seconds=10).splitlines() == [
        "digits: 9 of 10 runs, 10 s, about 10 s to go",
        "digits: 10 of 10 runs, 20 s",
    ]


def test_nothing_is_said_of_a_few_pieces():
    assert follow(4) == ""


def test_after_long_silence_there_is_a_line_whatever_is_done():
    """Two pieces, of which none is done: the clock says 20 s, then 40 s, then 60 s, then 80 s."""
    times, out = iter([0.0, 20.0, 40.0, 40.0, 60.0, 80.0, 80.0]), io.StringIO()
    with progress("refute", "parts", 2, console=Console(file=out), clock=times.__next__) as counter:
        for _ in range(4):
            counter.still()
    assert out.getvalue().splitlines() == ["refute: 0 of 2 parts, 40 s", "refute: 0 of 2 parts, 1 min 20 s"]


def test_work_of_unknown_length_says_what_is_known():
    out, seen = io.StringIO(), threading.Event()
    console = Console(file=out)
    show = console.print

    def told(*texts, **how):
        show(*texts, **how)
        seen.set()

    console.print = told
    with heartbeat("certify", console=console, every=0.01) as tell:
        tell("9 cells, 1.5 to 1.6")
        seen.clear()
        assert seen.wait(60)
    count = out.getvalue().count("\n")
    assert "certify: 9 cells, 1.5 to 1.6, 0 s" in out.getvalue().splitlines()
    time.sleep(0.05)
    assert out.getvalue().count("\n") == count  # the end ends it
    assert "\x1b" not in out.getvalue()


def test_work_that_ends_soon_says_nothing():
    out = io.StringIO()
    with heartbeat("certify", console=Console(file=out)) as tell:
        tell("1 cell")
    assert out.getvalue() == ""


def test_on_a_terminal_what_is_known_is_a_live_line():
    out = io.StringIO()
    with heartbeat("certify", console=Console(file=out, force_terminal=True, width=80)) as tell:
        tell("9 cells, 1.5 to 1.6")
    assert "certify" in out.getvalue()
    assert "\x1b[?25h" in out.getvalue()  # the cursor is back


def test_a_narrow_log_breaks_no_line():
    assert len(follow(40, width=20).splitlines()) == LINES


def test_a_terminal_has_a_bar_with_the_time_to_go():
    said = follow(90, force_terminal=True, width=80, legacy_windows=False, _environ={})
    assert "digits: " not in said
    assert "run 89" in said
    assert "about 2 min 58 s to go" in said  # after the first of 90
    assert "90/90" in said
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said)
    assert all(len(line) <= 80 for line in re.split(r"[\r\n]", plain))


def test_what_is_done_at_once_says_nothing():
    assert follow(40, seconds=0.02) == ""


def test_a_dumb_terminal_has_lines():
    assert len(follow(40, force_terminal=True, _environ={"TERM": "dumb"}).splitlines()) == LINES


def test_reproduce_says_how_far_it_is(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(_progress, "FEW", 2)
    monkeypatch.setattr(_progress, "APART", 0)
    assert main(["reproduce", "--quick", "--out", str(tmp_path), "--only", "c1", "--only", "t2"]) == 0
    first, last = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"reproduce: 1 of 2 statements, \d+ s, about \d+ s to go", first)
    assert re.fullmatch(r"reproduce: 2 of 2 statements, \d+ s", last)
