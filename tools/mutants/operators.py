"""The mutants of a file: one small change each, as text, with the line and the function it stands in."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

COMPARE: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
"""A comparison -> the same with the boundary moved, and the opposite."""
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
}
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_DOCUMENTED = (ast.Module, ast.ClassDef, *_FUNCTIONS)


@dataclass(frozen=True)
class Mutant:
    """One change: the text between two offsets of the file becomes another.

    Attributes:
        line: where the change begins, from 1.
        column: the same within the line, from 0.
        operator: what kind of change it is.
        function: the qualified name of the innermost function around it; empty outside any.
        start, end: offsets of the old text.
        new: the new text.
    """

    line: int
    column: int
    operator: str
    function: str
    start: int
    end: int
    new: str

    def apply(self, source: str) -> str:
        """The file with this change."""
        return source[: self.start] + self.new + source[self.end :]

    def shown(self, source: str) -> tuple[str, str]:
        """The lines before and after."""
        first = source.rfind("\n", 0, self.start) + 1
        last = source.find("\n", self.end)
        last = len(source) if last < 0 else last
        return source[first:last].strip(), (source[first : self.start] + self.new + source[self.end : last]).strip()


def mutants(source: str) -> list[Mutant]:
    r"""Every mutant of a file, in order.

    >>> [m.new for m in mutants("def f(a):\n    return a + 1\n")]
    ['return None', '(a - 1)', '2', '0']
    """
    return list(_Maker(source).walk(ast.parse(source), "", ""))


class _Maker:
    """Walks the tree; annotations, docstrings, decorators, what is raised or warned, and f-strings are left alone."""

    def __init__(self, source: str):
        self._starts = [0]
        for line in source.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))
        self._lines = source.splitlines(keepends=True)
        self._source = source

    def walk(self, node: ast.AST, function: str, prefix: str) -> Iterator[Mutant]:
        """The mutants of a node and of all below it; `prefix` is what a name defined here is qualified with."""
        if _left_alone(node):
            return
        for operator, target, new in _changes(node, self._text):
            yield self._mutant(operator, target, new, function)
        if isinstance(node, _FUNCTIONS):
            function, prefix = prefix + node.name, f"{prefix}{node.name}.<locals>."
        elif isinstance(node, ast.ClassDef):
            prefix = f"{prefix}{node.name}."
        for child in _children(node):
            yield from self.walk(child, function, prefix)

    def _offset(self, line: int, column: int) -> int:
        """Convert a position of the tree, whose columns count bytes."""
        return self._starts[line - 1] + len(self._lines[line - 1].encode()[:column].decode())

    def _span(self, node: ast.stmt | ast.expr) -> tuple[int, int]:
        end_line, end_column = node.end_lineno or node.lineno, node.end_col_offset or 0
        return self._offset(node.lineno, node.col_offset), self._offset(end_line, end_column)

    def _text(self, node: ast.stmt | ast.expr) -> str:
        start, end = self._span(node)
        return self._source[start:end]

    def _mutant(self, operator: str, target: ast.stmt | ast.expr, new: str, function: str) -> Mutant:
        start, end = self._span(target)
        return Mutant(target.lineno, target.col_offset, operator, function, start, end, new)


def _left_alone(node: ast.AST) -> bool:
    """Whether a node is text for people, or only for a type checker."""
    if isinstance(node, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom):
        return True
    if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        return True
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below a node, without annotations, decorators, docstrings and texts of warnings."""
    skipped: set[int] = set()
    if isinstance(node, _DOCUMENTED):
        skipped |= {id(d) for d in getattr(node, "decorator_list", ())}
        skipped |= {id(n) for n in node.body if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)}
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("warnings.warn", "TypeVar", "cast"):
        return
    skipped |= {id(part) for part in (getattr(node, "annotation", None), getattr(node, "returns", None)) if part is not None}
    yield from (child for child in ast.iter_child_nodes(node) if id(child) not in skipped)


_Change = tuple[str, "ast.stmt | ast.expr", str]
_Text = Callable[["ast.stmt | ast.expr"], str]
_Make = Callable[[Any, _Text], Iterator[_Change]]


def _changes(node: ast.AST, text: _Text) -> Iterator[_Change]:
    """The changes to this node itself: the kind, what is replaced, and by what."""
    for kind, make in _MAKERS:
        if isinstance(node, kind):
            yield from make(node, text)


def _comparison(node: ast.Compare, text: _Text) -> Iterator[_Change]:
    for at, op in enumerate(node.ops):
        for other in COMPARE[type(op)]:
            ops = [other() if i == at else o for i, o in enumerate(node.ops)]
            yield "comparison", node, f"({ast.unparse(ast.Compare(node.left, ops, node.comparators))})"


def _arithmetic(node: ast.BinOp, text: _Text) -> Iterator[_Change]:
    other = ARITHMETIC.get(type(node.op))
    if other is not None and not any(_is_text(side) for side in (node.left, node.right)):
        yield "arithmetic", node, f"({ast.unparse(ast.BinOp(node.left, other(), node.right))})"


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str | bytes))


def _in_place(node: ast.AugAssign, text: _Text) -> Iterator[_Change]:
    other = ARITHMETIC.get(type(node.op))
    if other is not None:
        yield "arithmetic", node, ast.unparse(ast.AugAssign(node.target, other(), node.value))


def _logic(node: ast.BoolOp, text: _Text) -> Iterator[_Change]:
    other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    yield "and/or", node, f"({ast.unparse(ast.BoolOp(other, node.values))})"


def _unary(node: ast.UnaryOp, text: _Text) -> Iterator[_Change]:
    if isinstance(node.op, ast.Not | ast.USub):
        yield "not" if isinstance(node.op, ast.Not) else "sign", node, f"({text(node.operand)})"


def _constant(node: ast.Constant, text: _Text) -> Iterator[_Change]:
    value = node.value
    if isinstance(value, bool):
        yield "constant", node, str(not value)
    elif isinstance(value, int | float):
        yield from (("constant", node, repr(new)) for new in dict.fromkeys((value + 1, 0)) if new != value)


def _condition(node: ast.If | ast.IfExp | ast.While, text: _Text) -> Iterator[_Change]:
    if not _opposite(node.test):
        yield "condition", node.test, f"not ({text(node.test)})"


def _filter(node: ast.comprehension, text: _Text) -> Iterator[_Change]:
    yield from (("condition", test, f"not ({text(test)})") for test in node.ifs if not _opposite(test))


def _opposite(test: ast.expr) -> bool:
    """Whether another change makes the opposite of a condition."""
    one = isinstance(test, ast.Compare) and len(test.ops) == 1
    return one or (isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not))


def _value(node: ast.Return, text: _Text) -> Iterator[_Change]:
    if node.value is not None and not (isinstance(node.value, ast.Constant) and node.value.value is None):
        yield "return", node, "return None"


def _statement(node: ast.Expr, text: _Text) -> Iterator[_Change]:
    if isinstance(node.value, ast.Call):
        yield "statement", node, "pass"


_MAKERS: tuple[tuple[type[ast.AST] | tuple[type[ast.AST], ...], _Make], ...] = (
    (ast.Compare, _comparison),
    (ast.BinOp, _arithmetic),
    (ast.AugAssign, _in_place),
    (ast.BoolOp, _logic),
    (ast.UnaryOp, _unary),
    (ast.Constant, _constant),
    ((ast.If, ast.IfExp, ast.While), _condition),
    (ast.comprehension, _filter),
    (ast.Return, _value),
    (ast.Expr, _statement),
)
