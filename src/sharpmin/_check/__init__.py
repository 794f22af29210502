"""The conformance suite: scenarios with independently known right values, for sharpmin's SAM and others.

`check` tests the user's own training set-up; the suite of `sharpmin check` is in `_suite.py`, its families in `_families/`.
"""

from ._own_setup import check
from ._report import Outcome, Report

__all__ = ["Outcome", "Report", "check"]
