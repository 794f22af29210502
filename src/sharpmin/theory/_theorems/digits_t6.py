"""T6 on real data: m- and n-SAM with batches of 32 on softmax regression of the digits.

**Assumptions.** Those of T6, constants as for digits-t1; sigma^2 = mean 2 ||a_i||^2/32 and, for m-SAM, beta_component the root
mean square smoothness of a batch (5.42, estimated from 1000 batches plus four standard errors; one sample reaches 11.65); the
prescribed step size; T = 10^4. Three rows: m-SAM and n-SAM at rho = 0.05, and m-SAM at rho = 0.1.

**Statement.** The bound of T6: 0.82 Delta (m-SAM) and 0.73 Delta (n-SAM) at rho = 0.05. At rho = 0.1 its floor
beta^2 rho^2/(2 mu) alone exceeds Delta: the bound is vacuous, which the row shows.

**Where it is attained.** Not here; T6 is attained on E3.

**For training.** Worst-case floors are below Delta on real data only for small rho; the run itself goes far below them.

**Source.** T6, derived here; data as for digits-t1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from .._statements.cell import Cell
from .._statements.confront import confront
from .._statements.theorem import Theorem, register
from .digits import digits
from .t6 import T6


def check(theorem: Theorem, quick: bool, *, method: str, rho: float) -> Iterator[Cell]:
    """The mean gap over seeds at the prescribed step size."""
    f, constants = digits()
    k: dict[str, Any] = {**constants, "sigma": f.sigma, "rho": rho, "steps": 10_000, "oracle": method}
    k["beta_component"] = f.beta_batch
    lr, lanes = theorem.step_size(**k), 4 if quick else 16
    where = f"digits, batch 32, {method}, rho {rho:g}, lr {lr:.3g}, T 10000, {lanes} seeds"
    yield confront(theorem, where, f, k, method=method, lr=lr, x0=[0.0] * f.dim, seeds=lanes, trivial=k["delta"])


def _row(name: str, title: str, runner: Callable[[Theorem, bool], Iterator[Cell]]) -> Theorem:
    row = replace(T6, id=name, title=title, statement=__doc__, check=runner, mutants={}, applies="t6")
    return register(row)


DIGITS_T6_M = _row("digits-t6-m", "digits, m-SAM: T6 with the constants of the data", partial(check, method="m-sam", rho=0.05))
DIGITS_T6_N = _row("digits-t6-n", "digits, n-SAM: T6 with the constants of the data", partial(check, method="n-sam", rho=0.05))
DIGITS_T6_VACUOUS = _row(
    "digits-t6-vacuous", "digits, m-SAM at twice the rho: T6 says nothing", partial(check, method="m-sam", rho=0.1)
)
