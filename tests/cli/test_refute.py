"""`sharpmin refute` as a user meets it: the library's numbers, exit codes that say what was found, one line for every error."""

import json
import re

import pytest

from sharpmin.cli import main
from sharpmin.theory import refute

HOPEFUL = """
def hopeful(*, beta, mu, steps, delta, lr):
    return (1 - mu * lr) ** steps * delta


def wary(*, beta, delta):
    return delta + 1e9
"""
CLAIM = ["--method", "sam", "--assumptions", "strongly-convex", "--quantity", "gap", "--budget", "400", "--workers", "1"]


@pytest.fixture
def file(tmp_path, request):
    path = tmp_path / (re.sub(r"\W", "_", request.node.name) + ".py")  # a module of its own
    path.write_text(HOPEFUL)
    return path


def test_a_false_bound_ends_with_1_and_its_code_is_written(file, capsys, tmp_path):
    assert main(["refute", f"{file}:hopeful", *CLAIM, "--json", "--out", str(tmp_path / "worst.py")]) == 1
    record = json.loads(capsys.readouterr().out)
    namespace = {}
    exec((tmp_path / "worst.py").read_text(), namespace)
    assert record["refuted"] is True
    assert namespace["measured"] == record["worst"]["measured"]
    assert namespace["limit"] == record["worst"]["bound"]


def test_a_bound_that_stands_ends_with_0(file, capsys):
    assert main(["refute", f"{file}:wary", *CLAIM]) == 0
    assert "not refuted" in capsys.readouterr().out


def test_a_statement_needs_no_more_than_its_name(capsys):
    assert main(["refute", "t1", "--kappa", "2,30", "--budget", "300", "--seed", "3", "--workers", "1", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    own = refute("t1", kappa=(2, 30), budget=300, seed=3)
    assert record["ratio"] == own.ratio
    assert record["worst"]["source"] == own.code()


def test_two_workers_import_the_file(file, capsys):
    arguments = [*CLAIM[:-1], "2"]
    assert main(["refute", f"{file}:hopeful", *arguments, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["refuted"] is True


def test_finished_parts_are_kept(file, capsys, tmp_path):
    store = tmp_path / "hunt.jsonl"
    first, second = (main(["refute", f"{file}:hopeful", *CLAIM, "--store", str(store), "--json"]) for _ in range(2))
    assert first == second == 1
    assert len(store.read_text().splitlines()) == 4


@pytest.mark.parametrize(("kept", "words"), [(True, "0 of 4 parts are in "), (False, "nothing was kept")])
def test_ctrl_c_says_what_is_kept(kept, words, file, capsys, tmp_path, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr("sharpmin.runs.compute", interrupted)
    store = ["--store", str(tmp_path / "hunt.jsonl")] if kept else []
    assert main(["refute", f"{file}:hopeful", *CLAIM, *store]) == 130
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["refute", "t99"], "is neither a statement"),
        (["refute", "nowhere.py:bound"], "there is no file nowhere.py"),
        (["refute", "{file}"], "has 2 functions; say which one; for example: "),
        (["refute", "{file}:missing"], "has no function 'missing'"),
        (["refute", "{file}:hopeful"], "for which runs is it claimed? give --method, --assumptions, --quantity"),
        (["refute", "t1", "--kappa", "many"], "--kappa 'many' must be a number, or low,high"),
        (["refute", "t1", "--kappa", "1,2,3"], "must be a number, or a pair"),
        (["refute", "t1", "--out", "worst.txt"], "must end in .py"),
        (["refute", "t1", "--workers", "2", "--scheduler", "tcp://host:1"], "cannot both be given"),
    ],
)
def test_bad_use_is_one_line(file, arguments, message, capsys):
    assert main([part.format(file=file) for part in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("sharpmin: ")
    assert message in error
    assert "; for example: " in error
    assert error.count("\n") == 1


def test_a_file_that_fails_is_said_to(tmp_path, capsys):
    path = tmp_path / "conjecture_broken.py"
    path.write_text("1 / 0")
    assert main(["refute", f"{path}:bound"]) == 2
    assert "conjecture_broken.py fails: ZeroDivisionError" in capsys.readouterr().err
