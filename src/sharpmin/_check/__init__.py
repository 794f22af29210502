"""The conformance suite: scenarios with independently known right values, for our SAM and for anybody's.

`check` looks at a set-up of one's own; the suite that `sharpmin check` runs is in `_suite.py`, its families in `_families/`.
"""

from ._case import Outcome, Report
from ._own_setup import check

__all__ = ["Outcome", "Report", "check"]
