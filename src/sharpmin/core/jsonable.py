"""Conversion of values for JSON."""

from __future__ import annotations

import math
from typing import Any


def jsonable(value: Any) -> Any:
    """Nested dicts, lists and tuples with None for nan and inf, which JSON does not have.

    >>> jsonable({"a": (1.0, float("nan")), "b": {"c": [float("inf"), "text", True]}})
    {'a': [1.0, None], 'b': {'c': [None, 'text', True]}}
    """
    if isinstance(value, dict):
        return {key: jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
