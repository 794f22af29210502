"""`sharpmin rho` as a user meets it: the cost first, a table and sentences, JSON, one line for every error."""

import json
import math
import re

import pytest

from sharpmin.cli import _progress, main
from sharpmin.diagnostics import rho_range
from sharpmin.study import NOISY, begin


@pytest.fixture(autouse=True)
def no_lines(monkeypatch):
    """Of the progress, however slow the machine is."""
    monkeypatch.setattr(_progress, "APART", math.inf)


QUICK = ["rho", "digits", "--grid", "0.05,0.5"]


def test_the_cost_comes_first_then_what_the_library_says(capsys):
    assert main([*QUICK, "--steps", "20", "--seed", "3", "--noisy"]) == 0
    said = capsys.readouterr()
    begun = begin("digits", NOISY, 3, 20)
    found = rho_range(begun.model, begun.opt, begun.step, begun.batches, rhos=[0.05, 0.5], steps=20)
    assert said.out == f"{found.explain()}\n"
    assert re.fullmatch(r"digits: 100 gradient evaluations, about \d+ s\n", said.err)


def test_the_tasks_differ_by_seed_and_by_noise():
    runs = [begin("digits", noise, seed, 1) for noise, seed in ((0.0, 0), (0.0, 0), (0.0, 1), (NOISY, 0))]
    losses = [run.step(run.model, run.opt, run.batches[0]).item() for run in runs]
    assert losses[0] == losses[1]
    assert len(set(losses)) == 3


def test_json_of_the_start_only(capsys):
    assert main([*QUICK, "--steps", "0", "--json"]) == 0
    said = capsys.readouterr()
    record = json.loads(said.out)
    assert re.fullmatch(r"digits: 32 gradient evaluations, about \d+ s\n", said.err)
    assert [record[key] for key in ("task", "noise", "seed", "steps", "evaluations")] == ["digits", 0.0, 0, None, 32]
    assert [point["rho"] for point in record["points"]] == [0.05, 0.5]
    assert all(math.isclose(sum(point["shares"].values()), 1) for point in record["points"])
    assert record["claims"]["collapse"] is None


def test_a_terminal_sees_a_bar(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    assert main([*QUICK, "--steps", "0"]) == 0
    assert "32/32" in capsys.readouterr().err


BAD = [
    (["rho"], "rho: TASK is missing; needed: digits, mnist1d, "),
    (["rho", "digit"], "rho: no task 'digit'; nearest: digits"),
    (["rho", "digits", "--grid", "0.1,x"], "--grid '0.1,x' must be numbers > 0 with commas; for example: --grid 0.05,0.1,0.2"),
    (["rho", "digits", "--grid", "0.1,-1"], "rhos=-1.0; rhos must be a finite number > 0"),
    (["rho", "digits", "--grid", ""], "--grid '' must be numbers > 0"),
    (["rho", "digits", "--steps", "19"], "--steps 19; at least 20 are needed"),
    (["rho", "digits", "--seed", "-1"], "--seed"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_use_is_one_line(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert "; for example: " in err
    assert (out, err.count("\n"), list(tmp_path.iterdir())) == ("", 1, [])


def test_ctrl_c_leaves_nothing(capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("sharpmin.diagnostics.rho_range", interrupted)
    assert main(QUICK) == 130
    assert capsys.readouterr() == ("", "sharpmin: interrupted; nothing was written\n")
