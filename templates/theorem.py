"""X1. One line that says what the statement means.

**Assumptions.** What f, lr, rho and the noise must satisfy.

**Statement.** The inequality, every symbol defined.

**Where it is attained.** The instance, or how close the known ones come.

**For training.** The consequence for somebody who trains a network.

**Source.** Derived here, or author, year, title, arXiv id; which of the claims P1 to P7 it makes precise.
"""

# Copy to src/sharpmin/theory/_theorems/x1.py and add `x1` to the import in that folder's __init__.py. The table of
# `sharpmin reproduce`, `plan`, the table of settings and the tests follow from what `Theorem` says below.

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from sharpmin.theory._problems import problems
from sharpmin.theory._statements.assume import step_below
from sharpmin.theory._statements.cell import Cell
from sharpmin.theory._statements.confront import confront
from sharpmin.theory._statements.random_problems import random_problems
from sharpmin.theory._statements.situation import Place, Rule
from sharpmin.theory._statements.theorem import Theorem, register, scaled, without


def bound(*, beta: float, rho: float, steps: int, delta: float, lr: float) -> float:
    """The right-hand side. Keywords of known names arrive checked: finite, in their domain, mu <= beta."""
    step_below("x1", lr, 1 / beta, "1/beta", strict=False)  # further conditions of this statement
    return 2 * delta / (lr * steps) + beta**2 * rho**2


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """Families, and the instance that attains the bound. Call `theorem.bound`, not `bound`: `theorem` may be a mutant."""
    for trial in random_problems(theorem, "nonconvex", quick=quick):
        yield from trial.mean_squares("sam", partial(theorem.bound, beta=trial.problem.beta))
    f = problems()["quadratic"](curvatures=[2.0])
    k = {"beta": 2.0, "rho": 0.3, "steps": 1000, "delta": 0.09, "lr": 0.5}
    yield confront(theorem, "quadratic, lr 1/beta", f, k, x0=0.3)


X1 = register(
    Theorem(
        id="x1",
        title="one line for the table",
        claims=("P3",),
        kind="upper",
        statement=__doc__,
        formula=bound,
        check=check,
        example={"beta": 1.0, "rho": 0.5, "steps": 1000, "delta": 1.0, "lr": 0.5},
        golden=(({}, 0.004 + 0.25),),  # changes to the example, and the bound computed by hand
        attained=True,
        rule=Rule("squared-gradient", "2 Delta/(lr T) + beta^2 rho^2"),  # upper bounds only
        places=(Place("exact", "nonconvex", "constant"),),
        mutants={"1 % lower": scaled(bound, 0.99), "no rho term": without(bound, rho=0.0)},
    )
)
