"""Studies: SGD, constant SAM and its remedies on real data at equal gradient evaluations, clean and with label noise.

`cells` lists the runs, `compute` makes their rows, `Store` keeps them, `table` and `findings` read them, `page` shows them.
"""

from ._begin import Beginning, begin
from ._data import SETTINGS, Setting, setting
from ._findings import Finding, findings
from ._methods import METHODS, Method
from ._page import page
from ._results import Store, cells, compute
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
    "Store",
    "begin",
    "cells",
    "compute",
    "findings",
    "page",
    "paired",
    "run",
    "setting",
    "table",
]
