"""Numbers and schedules from the command line, parsed as syntax trees and built from known classes, without `eval`."""

from __future__ import annotations

import ast
import inspect
from typing import Any

from sharpmin.core import rho
from sharpmin.theory import InverseTime

RHO = {
    name: kind
    for name, kind in vars(rho).items()
    if isinstance(kind, type) and issubclass(kind, rho.RhoSchedule) and not inspect.isabstract(kind) and not kind.remembers
}
"""The schedules of the laboratory: those without state."""
LR = {"InverseTime": InverseTime}


def number_or_schedule(option: str, text: str, classes: dict[str, Any]) -> Any:
    """A number, a tuple of numbers (one per lane), or a schedule such as `InverseSqrt(0.5)` or `Every(Constant(0.1), k=2)`.

    Raises:
        ValueError: for anything else; the message lists the schedules.

    >>> number_or_schedule("--rho", "Capped(0.5, c=0.1)", RHO), number_or_schedule("--rho", "0.1, 0.2", RHO)
    (Capped(rho=0.5, c=0.1), (0.1, 0.2))
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        return tuple(_number(item) for item in tree.elts) if isinstance(tree, ast.Tuple) else _build(tree, classes)
    except (SyntaxError, _Unknown, RecursionError, MemoryError):
        known = ", ".join(f"{name}{inspect.signature(kind)}".replace(" -> None", "") for name, kind in classes.items())
        raise ValueError(f"{option} {text!r} must be a number, numbers with commas, or one of {_plain(known)}") from None
    except TypeError as error:
        raise ValueError(f"{option} {text!r}: {str(error).replace('.__init__()', '')}") from None


def numbers(option: str, text: str, count: int, such_as: str) -> tuple[float, ...]:
    """`count` numbers separated by commas.

    Raises:
        ValueError: for anything else.

    >>> numbers("--residual", "0, 1, 0.01", 3, "0,1,0.01")
    (0.0, 1.0, 0.01)
    """
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if len(found) != count:
        raise ValueError(f"{option} {text!r} must be {count} numbers with commas; for example: {option} {such_as}")
    return found


class _Unknown(Exception):
    """Syntax that is neither a number nor a known schedule."""


def _build(node: ast.expr, classes: dict[str, Any]) -> Any:
    if not isinstance(node, ast.Call):
        return _number(node)
    if not isinstance(node.func, ast.Name) or node.func.id not in classes or any(item.arg is None for item in node.keywords):
        raise _Unknown
    arguments = [_build(item, classes) for item in node.args]
    names = [str(item.arg) for item in node.keywords]
    for name in names:
        if names.count(name) > 1:
            raise TypeError(f"{name} is given {names.count(name)} times; keep one of them")
    return classes[node.func.id](*arguments, **{str(item.arg): _build(item.value, classes) for item in node.keywords})


def _number(node: ast.expr) -> float | int:
    sign = 1
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        sign, node = (-1 if isinstance(node.op, ast.USub) else 1), node.operand
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) and not isinstance(node.value, bool):
        return sign * node.value
    raise _Unknown


def _plain(signatures: str) -> str:
    """Signatures as text, without annotations."""
    return signatures.replace("'", "").replace("float | RhoSchedule", "Rho")
