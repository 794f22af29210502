"""T1 on real data: full-batch SAM on l2-regularized softmax regression of the digits.

**Assumptions.** Those of T1, with constants taken from the data: 1797 digits, pixels / 16, l2 = mu = 0.1, no intercept, W0 = 0,
beta = lambda_max(A'A/n)/2 + l2 = 5.328, Delta = 0.634; rho = 0.05; the prescribed step size.

**Statement.** The bound of T1, at T = 10^4 (quick: 1000).

**Where it is attained.** Not here: kappa is 53, and the floor is kappa times that of a quadratic.

**For training.** The constants of a real problem can be small enough for a useful bound: it is far below the gap at the
start.

**Source.** T1, derived here; data: Alpaydin & Kaynak, Optical Recognition of Handwritten Digits, UCI 1998, as bundled with
scikit-learn.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from .._statements.cell import Cell
from .._statements.confront import confront
from .._statements.theorem import Theorem, register
from .digits import digits
from .t1 import T1

RHO = 0.05


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """One run at the prescribed step size."""
    f, k = digits()
    steps = 1000 if quick else 10_000
    at = {**k, "rho": RHO, "steps": steps}
    lr = theorem.step_size(**at)
    where = f"digits, full batch, rho {RHO}, lr {lr:.3g}, T {steps}"
    yield confront(theorem, where, f, {**at, "lr": lr}, x0=[0.0] * f.dim, trivial=k["delta"])


DIGITS_T1 = register(
    replace(
        T1,
        id="digits-t1",
        title="digits, full batch: T1 with the constants of the data",
        statement=__doc__,
        check=check,
        mutants={},
        applies="t1",
    )
)
