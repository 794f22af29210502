"""T1d on real data: full-batch SAM with lr ~ 2/(mu t) on softmax regression of the digits.

**Assumptions.** Those of T1d, constants as for digits-t1; rho = 0.05; lr_t = 2/(mu (t + 4 beta/mu)).

**Statement.** The bound of T1d, at T = 10^4 (quick: 1000).

**Where it is attained.** Not here: kappa is 53.

**For training.** A decaying step size needs no knowledge of the horizon, and ends closer than a constant one.

**Source.** T1d, derived here; data as for digits-t1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from .._statements.cell import Cell
from .._statements.confront import confront
from .._statements.theorem import Theorem, register
from .digits import digits
from .t1d import T1D

RHO = 0.05


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """One run, at the step sizes that T1d prescribes."""
    f, k = digits()
    steps = 1000 if quick else 10_000
    lr, at = theorem.step_size(beta=k["beta"], mu=k["mu"]), {**k, "rho": RHO, "steps": steps}
    where = f"digits, full batch, rho {RHO}, T {steps}"
    yield confront(theorem, where, f, at, lr=lr, x0=[0.0] * f.dim, trivial=k["delta"])


DIGITS_T1D = register(
    replace(
        T1D,
        id="digits-t1d",
        title="digits, full batch: T1d with the constants of the data",
        statement=__doc__,
        check=check,
        mutants={},
        applies="t1d",
    )
)
