"""Studies: SGD, constant SAM and its remedies on real data at equal gradient evaluations, clean and with label noise.

`cells` lists the runs, `run` makes one, `sharpmin.runs` all of them; `table` and `findings` read the rows, `page` shows them.
"""

from ._begin import Beginning, begin
from ._data import SETTINGS, Setting, setting
from ._findings import Finding, findings
from ._methods import METHODS, Method
from ._page import page
from ._results import cells
from ._run import Cell, run
from ._table import Estimate, Line, paired, table

__all__ = [
    "METHODS",
    "SETTINGS",
    "Beginning",
    "Cell",
    "Estimate",
    "Finding",
    "Line",
    "Method",
    "Setting",
    "begin",
    "cells",
    "findings",
    "page",
    "paired",
    "run",
    "setting",
    "table",
]
