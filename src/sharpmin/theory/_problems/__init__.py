"""Worst cases and test functions. A new one is one file here, made from `templates/problem.py`, and one import line below."""

from . import (
    _digits,
    _e1,
    _e2,
    _e3,
    _e4,
    _e5,
    _logcosh,
    _pl_trap,
    _product,
    _quadratic,
    _trap,
    _trap_lipschitz,
    _trap_smooth,
    _us,
)
from ._registry import problems

__all__ = ["problems"]
