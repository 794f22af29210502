"""The driver of `make mutants`: which changes it makes, and that a small repository gets the verdicts that it deserves."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CHANGES = [
    ("a < b", ["(a <= b)", "(a >= b)"]),
    ("a == b", ["(a != b)"]),
    ("a is b", ["(a is not b)"]),
    ("a in b", ["(a not in b)"]),
    ("a + b", ["(a - b)"]),
    ("a * b", ["(a / b)"]),
    ("a - b * a", ["(a + b * a)", "(b / a)"]),
    ("a and b", ["(a or b)"]),
    ("not a", ["(a)"]),
    ("-a", ["(a)"]),
    ("f(0, 5, True)", ["1", "6", "0", "False"]),
    ("a if b else f", ["not (b)"]),
    ("[x for x in a if x]", ["not (x)"]),
    ("[x for x in a if not x]", ["(x)"]),
    ("'text' + a", []),
    ("f'{a + 1} words'", []),
]
STATEMENTS = [
    ("f(a)", ["pass"]),
    ("a += b", ["a -= b"]),
    ("return None", []),
    ("return", []),
    ("if a: f", ["not (a)"]),
    ("while a: f", ["not (a)"]),
    ("raise ValueError(1 + a)", []),
    ("a: Literal[1] = b", []),
    ("import a", []),
    ("'text'", []),
]


@pytest.fixture
def mutants(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    from tools.mutants.operators import mutants

    return mutants


@pytest.mark.parametrize(("code", "new"), CHANGES)
def test_expressions(code, new, mutants):
    assert [m.new for m in mutants(f"x = {code}\n")] == new


@pytest.mark.parametrize(("code", "new"), STATEMENTS)
def test_statements(code, new, mutants):
    assert [m.new for m in mutants(f"def g(a, b):\n    '''Words.'''\n    {code}\n")] == new


def test_where_a_change_is(mutants):
    source = "class C:\n    @p\n    def f(self, é: int = 1) -> Literal[2]:\n        def g():\n            return é + 'ü' * 3\n"
    found = [(m.line, m.operator, m.function, m.shown(source)[1]) for m in mutants(source)]
    line = "return é + 'ü' * "
    assert found == [
        (3, "constant", "C.f", "def f(self, é: int = 2) -> Literal[2]:"),
        (3, "constant", "C.f", "def f(self, é: int = 0) -> Literal[2]:"),
        (5, "return", "C.f.<locals>.g", "return None"),
        (5, "arithmetic", "C.f.<locals>.g", "return (é - 'ü' * 3)"),
        (5, "constant", "C.f.<locals>.g", line + "4"),
        (5, "constant", "C.f.<locals>.g", line + "0"),
    ]


def test_every_mutant_of_the_library_can_be_parsed(mutants):
    for path in sorted((ROOT / "src/sharpmin/diagnostics").rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        for mutant in mutants(source)[::5]:
            compile(mutant.apply(source), path.name, "exec")
            assert mutant.apply(source) != source


SOURCE = """def clipped(x):
    if x > 1:
        x = ONE
    return x


def idle(x):
    return x < 5


ONE = int("1")
"""
TEST = """from sharpmin.diagnostics.part import clipped

def test_it():
    assert [clipped(v) for v in (0.5, 1, 2)] == [0.5, 1, 1]
"""


def test_a_small_repository(tmp_path):
    """What is noticed is killed; an equivalent change is alive, as is one that no test runs; the next run goes on."""
    for name, text in {
        "src/sharpmin/__init__.py": "",
        "src/sharpmin/diagnostics/__init__.py": "",
        "src/sharpmin/diagnostics/part.py": SOURCE,
        "tests/diagnostics/test_part.py": TEST,
        "pyproject.toml": "[tool.pytest.ini_options]\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    def run(*arguments):
        env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        command = [sys.executable, "-m", "tools.mutants", "--only", "src/sharpmin/diagnostics/part.py", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

    first = run()
    assert first.returncode == 1, first.stdout + first.stderr
    rows = [json.loads(line) for line in (tmp_path / "out/mutants/results.jsonl").read_text().splitlines()]
    assert {(row["line"], row["after"]): row["result"] for row in rows} == {
        (2, "if (x >= 1):"): "alive",  # 1 either way
        (2, "if (x <= 1):"): "killed",
        (2, "if x > 2:"): "killed",
        (2, "if x > 0:"): "killed",
        (4, "return None"): "killed",
        (8, "return None"): "no test",
        (8, "return (x <= 5)"): "no test",
        (8, "return (x >= 5)"): "no test",
        (8, "return x < 6"): "no test",
        (8, "return x < 0"): "no test",
    }
    assert "src/sharpmin/diagnostics/part.py:2: comparison: 1 of 1 tests passed" in first.stdout
    assert "  + if (x >= 1):" in first.stdout
    assert "src/sharpmin/diagnostics: 4 of 10 killed (40.0%)" in first.stdout
    assert (tmp_path / "src/sharpmin/diagnostics/part.py").read_text() == SOURCE
    again = run()
    assert first.stdout.endswith(again.stdout)  # the report alone: nothing is run twice
