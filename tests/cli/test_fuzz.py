"""Command lines with anything anywhere: a result, or one line that says what is wrong, and an exit code that tells which."""

import io
import os
import tempfile
from contextlib import chdir, redirect_stderr, redirect_stdout

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sharpmin.cli import main

TRAP = ["--set", "theta=0.1", "--set", "rho=1", "--set", "beta=2"]
LINES = {
    "simulate": ["trap", *TRAP, "--lr", "0.1", "--rho", "Cosine(1, steps=5)", "--steps", "9", "--x0", "1,2", "--method", "sam"],
    "plan": ["--beta", "1", "--mu", "0.1", "--rho", "0.05", "--steps", "100", "--delta", "1", "--sigma", "0.1", "--json"],
    "certify": ["gd", "--steps", "1", "--lr", "0.5", "--kappa", "9", "--cells", "20", "--seconds", "1", "--json"],
    "refute": ["none of them", "--kappa", "2,30", "--budget", "9", "--seed", "1", "--json"],
    "list": ["theorems", "--json"],
    "cite": ["t1", "usam", "--json"],
    "diagnose": ["log.jsonl", "--blocks", "20", "--json"],
    "reproduce": ["--only", "none of them", "--out", "found"],
    "study": ["--data", "none of them", "--seeds", "1"],
    "rho": ["none of them", "--grid", "0.1", "--steps", "20", "--seed", "1"],
    "check": ["module", "--door", "closure", "--json"],
}
TOKENS = st.one_of(
    st.text(max_size=8),
    st.text("()[]{},=:.-+'\"\\ eE019_*jninfa", max_size=8),
    st.integers(-3, 99).map(str),
    st.floats().map(str),
    st.sampled_from(
        ["--", "-", "--json", "--set", "--rho", "--no", "-h", "Every(1, k=0)", "InverseTime(1)", "1_0", "²", "\x00"]
    ),
)


def harmless(arguments):
    """Writes into the folder of the test alone, runs nothing long, and names none of the large commands in full."""
    return not any(os.sep in one or ".." in one or one.startswith("~") for one in arguments)


@st.composite
def command_lines(draw, command):
    arguments = list(LINES[command])
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(arguments)))
        how = draw(st.sampled_from(["put in", "replace", "leave out", "twice"]))
        old = arguments[place : place + 1]
        arguments[place : place + 1] = {
            "put in": [draw(TOKENS), *old],
            "replace": [draw(TOKENS)],
            "leave out": [],
            "twice": 2 * old,
        }[how]
    return [command, *arguments]


@pytest.mark.parametrize("command", LINES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_one_line_and_the_right_code(command, data):
    arguments = data.draw(command_lines(command).filter(harmless))
    out, err = io.StringIO(), io.StringIO()
    with tempfile.TemporaryDirectory() as folder, chdir(folder), redirect_stdout(out), redirect_stderr(err):
        code = main(arguments)
        left = os.listdir()
    said = err.getvalue()
    assert code in (0, 2), (code, said)  # nothing is refuted here
    if code == 2:
        assert said.startswith("sharpmin: ")
        assert said.count("\n") == 1
        assert said[:-1].isprintable()
        assert out.getvalue() == ""
        assert left == []
    else:
        assert out.getvalue()
    assert "Traceback" not in said
