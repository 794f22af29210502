"""Studies: accuracy and cost of SGD, SAM and cheaper variants, all tuned alike, on clean and noisy labels.

`trials` and `judged` list the runs, `run` computes a row, `table`, `places` and `findings` read the rows, and `page`, `to_csv`
and `to_latex` show them; `sharpmin.runs` computes and keeps them.
"""

from ._begin import Beginning, begin
from ._estimate import Estimate
from ._export import to_csv, to_latex
from ._findings import Finding, findings
from ._frontier import Place, places
from ._methods import METHODS, Method
from ._page import page
from ._run import Cell, run
from ._settings import CLEAN, NOISY, SETTINGS, Setting, setting
from ._table import Line, paired, table
from ._trials import chosen, judged, trials

__all__ = [
    "CLEAN",
    "METHODS",
    "NOISY",
    "SETTINGS",
    "Beginning",
    "Cell",
    "Estimate",
    "Finding",
    "Line",
    "Method",
    "Place",
    "Setting",
    "begin",
    "chosen",
    "findings",
    "judged",
    "page",
    "paired",
    "places",
    "run",
    "setting",
    "table",
    "to_csv",
    "to_latex",
    "trials",
]
