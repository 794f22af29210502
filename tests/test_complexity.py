"""No function is a maze, as radon counts it, and no file is long."""

import ast
from pathlib import Path

from radon.visitors import ComplexityVisitor

SOURCE = Path(__file__).parents[1] / "src" / "sharpmin"
FILES = sorted(SOURCE.rglob("*.py"))
MOST, LINES = 15, 300
COMPILED = {
    f"theory/_simulation/kernel{name}"
    for name in (".py: hinge_steps", "_whole.py: two_steps", "_quadratic.py: quadratic_steps")
}
"""Loops that are written out so that they compile to SIMD."""


def functions(path):
    """Every function, method and closure, however deep, with its cyclomatic complexity; a closure also counts outside it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, ComplexityVisitor.from_ast(node).functions[0].complexity


def test_no_function_is_a_maze():
    found = [(f"{path.relative_to(SOURCE).as_posix()}: {name}", size) for path in FILES for name, size in functions(path)]
    assert len(found) > 500
    assert {(name, size) for name, size in found if size > MOST and name not in COMPILED} == set()
    assert COMPILED - {name for name, size in found if size > MOST} == set()  # an exception that is no longer needed


def test_no_file_is_long():
    lengths = {path.relative_to(SOURCE).as_posix(): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {name: length for name, length in lengths.items() if length > LINES} == {}
