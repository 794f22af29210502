"""The conformance suite: scenarios with independently known right values, for our SAM and for anybody's.

`check` looks at a set-up of one's own; the suite that `sharpmin check` runs is in `_suite.py`, its families in `_families/`.
"""

from ._own_setup import check
from ._report import Outcome, Report

__all__ = ["Outcome", "Report", "check"]
