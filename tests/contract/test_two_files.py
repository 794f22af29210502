"""A statement made from the template is two files: everything else follows from what it says of itself."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STATEMENTS = "sharpmin/theory/_theorems"
LOOK = r"""
import contextlib, io, json, sys
from dataclasses import replace

sys.modules["numba"] = None  # the reference simulator, which needs no compilation
from sharpmin import report
from sharpmin.cli import main
from sharpmin.theory import CLAIMS, plan, settings, theorems, verify
from sharpmin.theory._statements.theorem import _THEOREMS

report.build = lambda verdicts, **_: report.page(verdicts, CLAIMS)  # the figures do not depend on the statement

def said(*arguments):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main([*arguments])
    return code, out.getvalue()

x1 = theorems()["x1"]
code, listed = said("list", "theorems", "--json")
ran, table = said("reproduce", "--quick", "--only", "x1", "--out", sys.argv[1])
seen_by_settings = [[c.oracle, c.setting, c.radius] for c in settings() if "x1" in c.ids]
del _THEOREMS["t4"]  # which plan prefers, being first
chosen = plan(setting="nonconvex", oracle="exact", **x1.example)
print(json.dumps({
    "golden": [[x1.bound(**{**x1.example, **changes}), value] for changes, value in x1.golden],
    "holds": verify("x1", quick=True).holds,
    "mutants": {name: verify(replace(x1, formula=wrong), quick=True).holds for name, wrong in x1.mutants.items()},
    "settings": seen_by_settings,
    "plan": [chosen.ids[0], chosen.bound, x1.bound(**x1.example)],
    "listed": [row for row in json.loads(listed) if row["id"] == "x1"],
    "codes": [code, ran],
    "table": table,
}))
"""


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A copy of the package to which the template was added as its first lines tell."""
    folder = tmp_path_factory.mktemp("package")
    shutil.copytree(ROOT / "src/sharpmin", folder / "sharpmin", ignore=shutil.ignore_patterns("__pycache__"))
    before = tree(folder)
    shutil.copy(ROOT / "templates/theorem.py", folder / STATEMENTS / "x1.py")
    register = folder / STATEMENTS / "__init__.py"
    text, lines = re.subn(r"(    warm_start,\n)", r"\1    x1,\n", register.read_text())
    assert lines == 1
    register.write_text(text)
    after = tree(folder)
    changed = {name for name in after if before.get(name) != after[name]}
    assert changed == {f"{STATEMENTS}/x1.py", f"{STATEMENTS}/__init__.py"}
    assert before.keys() <= after.keys()
    return folder


@pytest.fixture(scope="module")
def seen(package, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    env = {**os.environ, "PYTHONPATH": str(package), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", LOOK, str(out)]
    done = subprocess.run(command, env=env, cwd=package, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout), "report": (out / "report.html").read_text()}


def test_it_holds_and_its_mutants_are_refuted(seen):
    assert all(value == pytest.approx(expected) for value, expected in seen["golden"])
    assert seen["holds"] is True
    assert set(seen["mutants"].values()) == {False}
    assert len(seen["mutants"]) == 2


def test_plan_and_the_settings_know_it(seen):
    assert seen["settings"] == [["deterministic", "nonconvex", "constant"]]
    name, bound, expected = seen["plan"]
    assert (name, bound) == ("x1", expected)


def test_the_commands_show_it(seen):
    assert seen["codes"] == [0, 0]
    assert seen["listed"] == [{"id": "x1", "kind": "upper", "claims": ["P3"], "title": "one line for the table"}]
    row = next(line.split() for line in seen["table"].splitlines() if line.startswith("P3"))
    assert (row[1], row[2], row[-1]) == ("x1", "upper", "holds")
    assert "one line for the table" in seen["report"]
    assert "theory/_theorems/x1.py" in seen["report"]
