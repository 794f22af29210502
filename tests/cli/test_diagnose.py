"""`sharpmin diagnose` as a user meets it: an exit code for every verdict, tables and JSON as the library says, bad logs."""

import json
import math
import re
import subprocess
import sys

import pytest

import sharpmin as sm
from sharpmin.cli import main
from sharpmin.diagnostics._run.log import read
from sharpmin.report._numbers import entries

from ..watched_runs import blocks, known_logs, quadratic

CODES = {
    "rho holds the loss up": 10, "two-cycle": 10, "trap": 10, "rho floor": 10, "noise floor": 0, "mixed floor": 20,
    "SAM is not what limits the loss": 0, "SAM speeds the descent up": 0, "undecided": 20,
}  # fmt: skip


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    return known_logs(tmp_path_factory)


@pytest.fixture
def said(capsys):
    """Run a command; what it says, on stdout or, with exit code 2, in one line on stderr."""

    def run(*arguments, code):
        assert main(["diagnose", *map(str, arguments)]) == code
        out = capsys.readouterr()
        assert (out.err == "") == (code != 2)
        if code == 2:
            assert out.out == ""
            assert out.err.count("\n") == 1
            assert out.err.startswith("sharpmin: ")
        return out.err if code == 2 else out.out

    return run


def flat(text):
    return " ".join(text.split())


@pytest.mark.parametrize("name", CODES)
def test_the_verdict_two_sentences_and_the_numbers(name, logs, said):
    text, found = said(logs[name], code=CODES[name]), sm.diagnose(logs[name])
    lines = text.splitlines()
    assert (found.state.value, lines[0]) == (name, found.headline)
    assert max(map(len, lines)) <= 80
    assert "…" not in text
    text.encode("ascii")
    for told in (*found.sentences, *found.remarks):
        assert told in flat(text)
    for entry in entries(found):
        assert flat(f"{entry.name} {entry.text} {entry.around} {entry.kind if entry.around else ''}") in flat(text)
    assert f"horizon of the fall, steps {found.numbers.horizon}" in flat(text)
    assert "What each number says, and its limits: the page that --html run.html writes." in flat(text)
    assert f"{found.window.blocks} blocks, rho {found.window.rho:.4g}, lr {found.window.lr:.4g}" in text


@pytest.mark.parametrize("name", CODES)
def test_json_is_one_document_with_every_number(name, logs, said):
    record, found = json.loads(said(logs[name], "--json", code=CODES[name])), sm.diagnose(logs[name])
    assert (record["state"], record["exit_code"], record["sentences"]) == (name, CODES[name], list(found.sentences))
    assert record["window"]["steps"] == found.window.steps
    assert record["remarks"] == found.remarks
    assert set(record["numbers"]) == set(found.numbers.asdict())
    for key, value in found.numbers.asdict().items():
        known = value is not None and (isinstance(value, tuple) or math.isfinite(value))
        assert record["numbers"][key] == (list(value) if isinstance(value, tuple) else value if known else None)
    assert (record["floor"] is None) == (found.floor is None)
    if found.floor is not None:
        assert record["floor"]["of_noise"] == found.floor.of_noise


def test_json_has_null_where_a_number_is_not_finite(tmp_path, said):
    lines = blocks(tmp_path / "run.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    for row in rows:
        if row["kind"] == "block":
            row["bounce"] = "inf"
    (tmp_path / "run.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert json.loads(said(tmp_path / "run.jsonl", "--json", code=10))["numbers"]["bounce"] is None


def test_fewer_blocks(logs, said):
    record = json.loads(said(logs["rho holds the loss up"], "--blocks", "7", "--json", code=10))
    assert (record["window"]["blocks"], record["window"]["first"]) == (7, 650)


# the page


def test_the_page_is_written_as_a_whole(logs, said, tmp_path):
    out = tmp_path / "run.html"
    out.write_text("an older one")
    text = said(logs["rho holds the loss up"], "--html", out, code=10)
    assert text.endswith(f"The page is {out}\n")
    assert "--html" not in text
    assert out.read_text().startswith("<!doctype html>")
    graded = {f"<h1>Rho holds the loss up, a {size} effect</h1>" for size in ("small", "clear", "large")}
    assert sum(title in out.read_text() for title in graded) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["run.html"]


def test_a_failure_leaves_an_older_page_alone(logs, said, tmp_path, monkeypatch):
    out = tmp_path / "run.html"
    out.write_text("an older one")

    def full(self, text, **_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    assert "No space left" in said(logs["rho holds the loss up"], "--html", out, code=2)
    monkeypatch.undo()
    assert out.read_text() == "an older one"
    assert [file.name for file in tmp_path.iterdir()] == ["run.html"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("run.txt", "must end in .html"),
        ("no/run.html", "there is no folder"),
        (".html/", "must end in .html"),
        ("", "must end"),
    ],
)
def test_a_page_that_cannot_be_written_is_refused_first(name, words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert words in said("nowhere.jsonl", "--html", name, code=2)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_library_is_named_with_its_pip_line(logs, tmp_path):
    code = f"""
import sys
sys.modules["plotly"] = None
from sharpmin.cli import main
raise SystemExit(main(["diagnose", {str(logs["trap"])!r}, "--html", {str(tmp_path / "run.html")!r}]))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.strip().endswith("pip install 'sharpmin[lab]'")
    assert list(tmp_path.iterdir()) == []


# bad logs: one clear sentence, and what is readable is used


def test_a_truncated_last_line(tmp_path, said):
    path = blocks(tmp_path / "run.jsonl")
    path.write_text(path.read_text()[:-100])
    assert "Note: 1 line could not be read and is left out (number 1021)." in flat(said(path, code=10))


def test_mixed_foreign_lines(tmp_path, said):
    path = blocks(tmp_path / "run.jsonl")
    lines = path.read_text().splitlines()
    path.write_text("\n".join(["epoch 1: loss 0.3", '{"loss": 3}', "", *lines, "[1, 2]", "\x00\x01", "null"]) + "\n")
    text = flat(said(path, code=10))
    assert "Note: 5 lines could not be read and are left out (number 1, 2, 1025, ...)." in text
    assert json.loads(said(path, "--json", code=10))["window"]["steps"] == 950


def test_nan_rows(tmp_path, said):
    path = blocks(tmp_path / "run.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows[500:520]:  # a block among them
        row |= {"loss": "nan", "gg": "nan"}
    bad = [row for row in rows if row["kind"] == "block"][-3:]
    for row in bad:
        row |= {"loss": "nan", "gg": "inf"}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    html = tmp_path / "run.html"
    text = flat(said(path, "--html", html, code=10))
    assert "4 blocks with gradients or losses that are not finite are left out" in text
    assert not re.search(r"\bnan\b", text)
    assert html.exists()


def test_a_learning_rate_that_changed(tmp_path, said):
    path = quadratic(tmp_path / "run.jsonl", rho=0.3, lr=0.002, steps=1000, drop=525)
    text = flat(said(path, code=0))
    assert "Note: the last 5 of 20 blocks are used: before them the loss was another." in text
    assert re.search(r"steps 750 to 999, 5 blocks, rho 0\.3, lr 0\.001", text)


SHORT = [
    (lambda path: quadratic(path, rho=0.3, steps=200), "4 blocks of steps, at least 5"),
    (lambda path: quadratic(path, rho=0.0, steps=200), "no SAM step"),
    (lambda path: path.write_text("loss 3\nloss 2\n"), "no line is a row of a watched run"),
    (lambda path: path.write_text(""), "no line is a row of a watched run"),
    (lambda path: path.write_bytes(bytes(range(256))), "no line is a row of a watched run"),
    (lambda path: path.mkdir(), "cannot read"),
    (lambda path: None, "No such file"),
]


@pytest.mark.parametrize(("write", "words"), SHORT)
def test_too_little_is_one_line(write, words, tmp_path, said):
    write(tmp_path / "run.jsonl")
    assert words in said(tmp_path / "run.jsonl", code=2)


def test_too_few_blocks_are_refused(logs, said):
    assert "--blocks" in said(logs["trap"], "--blocks", "4", code=2)


# in a script


def test_the_exit_code_of_a_process(logs):
    command = [sys.executable, "-m", "sharpmin", "diagnose", logs["rho holds the loss up"]]
    done = subprocess.run(command, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (10, b"")


@pytest.mark.parametrize("columns", ["20", "200"])
def test_a_narrow_or_wide_terminal(columns, logs, said, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    lines = said(logs["rho floor"], code=10).splitlines()
    assert max(map(len, lines)) <= max(80, int(columns))
    assert "…" not in "".join(lines)


def test_help_explains_the_exit_codes(capsys):
    assert main(["diagnose", "--help"]) == 0
    text = flat(capsys.readouterr().out)
    for part in ("0: rho does not hold it up", "10: rho does", "20: open", "2: bad use", "--blocks", "--json", "--html"):
        assert part in text


def test_the_log_is_only_read(logs, said):
    before = logs["trap"].read_bytes()
    said(logs["trap"], code=10)
    assert logs["trap"].read_bytes() == before
    assert len(read(logs["trap"]).steps) == 200


def test_a_page_is_written_through_a_symbolic_link(logs, tmp_path, said):
    """The file that the link names is replaced, and the link stays."""
    target, link = tmp_path / "pages" / "run.html", tmp_path / "run.html"
    target.parent.mkdir()
    link.symlink_to(target)
    for _ in range(2):
        said(logs["trap"], "--html", link, code=10)
        assert link.is_symlink()
        assert "<html" in target.read_text()[:200].lower()
    assert [path.name for path in target.parent.iterdir()] == ["run.html"]


def test_a_link_into_nowhere_is_refused_first(logs, tmp_path, said):
    link = tmp_path / "run.html"
    link.symlink_to(tmp_path / "no" / "run.html")
    assert "there is no folder" in said(logs["trap"], "--html", link, code=2)
