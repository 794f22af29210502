"""Worst cases and test functions. To add one, copy `templates/problem.py` to a file here and add one import line below."""

from . import (
    digits,
    e1,
    e2,
    e3,
    e4,
    e5,
    kappa2,
    logcosh,
    pl_trap,
    product,
    quadratic,
    trap,
    trap_lipschitz,
    trap_smooth,
    us,
    wedge,
)
from .registry import problems

__all__ = ["problems"]
