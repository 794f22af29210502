"""Worst cases and test functions. A new one is one file here, made from `templates/problem.py`, and one import line below."""

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
