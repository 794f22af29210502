"""The laboratory: problems, the simulator, and every statement as code that could be refuted.

`theorems()` and `problems()` list what there is; `simulate` runs SAM on many lanes at once; `verify` confronts a
statement with runs. Bounds and step sizes need only the standard library; the rest needs `pip install 'sharpmin[lab]'`.
"""

from . import _theorems as _theorems  # registers the statements
from ._hinge import Hinge, HingeProblem
from ._lr import InverseTime
from ._oracle import Oracle, samples
from ._problem import Problem
from ._problems import problems
from ._simulate import simulate
from ._theorem import CLAIMS, Cell, Theorem
from ._theorem import registered as theorems
from ._verify import Verdict, verify

__all__ = [
    "CLAIMS",
    "Cell",
    "Hinge",
    "HingeProblem",
    "InverseTime",
    "Oracle",
    "Problem",
    "Theorem",
    "Verdict",
    "problems",
    "samples",
    "simulate",
    "theorems",
    "verify",
]
