"""The laboratory: test problems, a simulator of SAM, and every statement as code that a run could refute.

`theorems()` and `problems()` list the statements and the problems; `simulate` runs SAM on many lanes at once; `verify`
compares a statement with runs; `plan` computes the bounds that hold for constants of your own. Bounds, step sizes and plans
need only the standard library; the rest needs `pip install 'sharpmin[lab]'`.
"""

from . import _theorems as _theorems  # registers the statements
from ._certify.certify import Certificate, certify
from ._examine.examine import Examination, examine
from ._plan.plan import plan
from ._plan.result import Plan
from ._problems import problems
from ._problems.hinge import Hinge, HingeProblem
from ._problems.own import own
from ._problems.problem import Problem
from ._refute.paths import expect
from ._refute.refute import Refutation, refute
from ._simulation.attractors import Attractor, attractors
from ._simulation.lr import InverseTime
from ._simulation.oracle import Oracle, samples
from ._simulation.simulate import simulate
from ._statements.cell import Cell
from ._statements.measure import Measured, measure_settings
from ._statements.settings import Setting, settings
from ._statements.statistic import statistic
from ._statements.theorem import CLAIMS, Theorem
from ._statements.theorem import registered as theorems
from ._statements.verify import Verdict, verify

__all__ = [
    "CLAIMS",
    "Attractor",
    "Cell",
    "Certificate",
    "Examination",
    "Hinge",
    "HingeProblem",
    "InverseTime",
    "Measured",
    "Oracle",
    "Plan",
    "Problem",
    "Refutation",
    "Setting",
    "Theorem",
    "Verdict",
    "attractors",
    "certify",
    "examine",
    "expect",
    "measure_settings",
    "own",
    "plan",
    "problems",
    "refute",
    "samples",
    "settings",
    "simulate",
    "statistic",
    "theorems",
    "verify",
]
