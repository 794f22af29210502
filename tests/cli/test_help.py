"""What the command line says of itself: help in groups, versions, completion, examples that work; none of it loads torch."""

import os
import re
import subprocess
import sys

import pytest

from sharpmin import __version__
from sharpmin._check._suite import registered
from sharpmin.cli import _app, _messages, _names, main
from sharpmin.cli._cite import references
from sharpmin.optim.variants import variants
from sharpmin.study import SETTINGS
from sharpmin.theory import problems, theorems

COMMANDS = [name for group in _app.COMMANDS.values() for name in group]


def said(capsys, arguments):
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_the_commands_are_in_groups_with_whole_summaries(capsys):
    text = said(capsys, ["--help"])
    for title, names in _app.COMMANDS.items():
        section = re.search(rf"^{title}:\n((?:  .*\n)+)", text, flags=re.MULTILINE)
        assert [line.split()[0] for line in section[1].splitlines()] == list(names)
    for name in COMMANDS:
        summary = re.search(rf"^  {name} +(.+)$", text, flags=re.MULTILINE)[1]
        assert summary.endswith(".")
        assert summary in said(capsys, [name, "--help"]).splitlines()[2]
    assert max(map(len, text.splitlines())) <= 80
    assert "..." not in text.partition("Options:")[2]


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=lambda words: " ".join(words) or "sharpmin")
def test_h_is_help(command, capsys):
    assert said(capsys, [*command, "-h"]) == said(capsys, [*command, "--help"])


def test_no_arguments_are_a_question_for_help(capsys):
    assert said(capsys, []) == said(capsys, ["--help"])


def test_the_version(capsys):
    assert said(capsys, ["--version"]) == f"sharpmin {__version__}\n"


def test_help_completion_and_version_load_nothing_heavy():
    """In one process, since each one takes a while to start."""
    code = f"""
import os, sys
from sharpmin.cli import main
for words in (["--version"], ["--help"], *([name, "-h"] for name in {COMMANDS!r})):
    assert main(words) == 0
for heavy in ("torch", "numpy", "numba", "scipy", "xarray", "rich", "sharpmin.theory"):
    assert heavy not in sys.modules, heavy
os.environ["_SHARPMIN_COMPLETE"] = "complete_bash"
for words in ("sharpmin check --only rho-z", "sharpmin cite us"):
    os.environ |= {{"COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}}
    assert main([]) == 0
for heavy in ("torch", "numpy", "numba", "scipy", "xarray", "rich"):
    assert heavy not in sys.modules, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-6:] == ["rho-zero", "rho-zero-no-trace", "us", "us-limit", "us-m", "usam"]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_ends_with_the_example_in_one_line(name, capsys):
    *_, title, example = said(capsys, [name, "-h"]).splitlines()
    assert (title, example) == ("Example:", f"  {_messages.EXAMPLES[name]}")
    assert example.split()[:2] == ["sharpmin", name]


@pytest.mark.parametrize("name", ["check", "plan", "list", "cite"])
def test_the_example_works(name, capsys):
    assert main(_messages.EXAMPLES[name].split()[1:]) == 0
    assert capsys.readouterr().out


@pytest.mark.parametrize("name", problems())
def test_every_problem_has_an_example_that_works(name, capsys):
    example = _messages.simulation([name])
    assert example.startswith(f"sharpmin simulate {name} ")
    assert said(capsys, example.split()[1:]).startswith(f"{name}, sam, 100 steps, 1 lane")


def test_the_example_of_simulate_is_that_of_the_quadratic():
    assert _messages.EXAMPLES["simulate"] == _messages.simulation() == _messages.simulation(["simulate", "nothing"])


COMPLETED = [
    ("sharpmin ", COMMANDS),
    ("sharpmin re", ["refute", "reproduce"]),
    ("sharpmin simulate tr", ["trap", "trap-lipschitz", "trap-smooth"]),
    ("sharpmin simulate trap --method m-", ["m-sam", "m-usam"]),
    ("sharpmin plan --setting ", ["strongly-convex", "convex", "pl", "nonconvex"]),
    ("sharpmin plan --oracle n", ["n-sam"]),
    ("sharpmin plan --radius c", ["constant", "capped", "clipped"]),
    ("sharpmin plan --quantity s", ["squared-gradient", "squared-distance"]),
    ("sharpmin plan --data ", ["digits"]),
    ("sharpmin refute t1", [name for name in theorems() if name.startswith("t1")]),
    ("sharpmin reproduce --only kap", ["kappa2"]),
    ("sharpmin certify ", ["gd", "usam", "sam"]),
    ("sharpmin study ", [*SETTINGS, "all"]),
    ("sharpmin rho m", ["mnist1d", "mnist-5k"]),
    ("sharpmin list p", ["problems"]),
    ("sharpmin cite si2", ["si2023practical"]),
    ("sharpmin cite kwon", ["kwon2021asam"]),
    ("sharpmin check --only rho-z", ["rho-zero", "rho-zero-no-trace"]),
    ("sharpmin check --only ddp-g", ["ddp-golden-step"]),
]


@pytest.mark.parametrize(("line", "values"), COMPLETED)
def test_completion(line, values, capsys, monkeypatch):
    monkeypatch.setenv("_SHARPMIN_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
    assert said(capsys, []).split() == values


def test_completion_can_be_installed(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "sharpmin", "--install-completion", "bash"],
        env=os.environ | {"HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "bash completion installed in" in done.stdout
    assert "sharpmin" in (tmp_path / ".bash_completions" / "sharpmin.sh").read_text()


def test_the_names_are_those_of_the_library():
    assert list(SETTINGS) == list(_names.DATA)
    assert {*_names.families()} == {*registered()}
    cited = _names.cited()
    assert {*cited} == {*variants(), *theorems(), *(paper.key for paper in references([]))}
    assert len({*cited}) == len(cited)


@pytest.mark.parametrize(
    ("module", "extra"),
    [("rich.console", "cli"), ("typer", "cli"), ("jinja2", "cli"), ("numpy", "lab"), ("plotly.graph_objects", "lab")],
)
def test_a_missing_package_is_answered_with_what_brings_it(module, extra, capsys, monkeypatch):
    def run(arguments):
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr(_app, "run", run)
    assert main(["list"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"sharpmin: {module!r} is not installed; ")
    assert err.endswith(f": pip install 'sharpmin[{extra}]'\n")
