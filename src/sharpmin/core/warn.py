"""A warning that points at the line of the user who caused it."""

from __future__ import annotations

import sys
import warnings

_NOT_THE_USER = {"sharpmin", "torch", "contextlib"}  # the packages through which the user's line comes here


def warn(text: str) -> None:
    """Warn with a `UserWarning` at the innermost line that is outside of sharpmin, torch and `contextlib`."""
    frame, level = sys._getframe(), 1  # from Python 3.12 on, skip_file_prefixes= of warnings.warn can do this
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _NOT_THE_USER:
        frame, level = frame.f_back, level + 1
    warnings.warn(text, UserWarning, stacklevel=level)
