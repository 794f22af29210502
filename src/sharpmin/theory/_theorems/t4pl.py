"""T4 for PL functions: deterministic SAM converges linearly to a gap of beta^2 rho^2/(2 mu).

**Assumptions.** f is beta-smooth and PL(mu): ||grad f||^2 >= 2 mu (f - f*); 0 < lr <= 1/beta; rho constant.

**Statement.** f(x_T) - f* <= (1 - lr mu)^T Delta + beta^2 rho^2/(2 mu)        (lr = 1/beta unless given).

**Where it is attained.** On a quadratic with kappa = 1 at lr = 1/beta.

**For training.** Over-parametrized losses are often close to PL; that does not lift the floor.

**Source.** Derived here; matches claim P3 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from .._problems import problems
from .._statements.assume import step_below
from .._statements.cell import Cell
from .._statements.confront import confront
from .._statements.random_problems import random_problems
from .._statements.situation import STRONG, Place, Rule
from .._statements.theorem import Theorem, register, scaled, without
from .t4 import step_size


def bound(*, beta: float, mu: float, rho: float, steps: int, delta: float, lr: float | None = None) -> float:
    """(1 - lr mu)^T Delta + beta^2 rho^2/(2 mu)."""
    lr = step_size(beta=beta) if lr is None else lr
    step_below("t4pl", lr, 1 / beta, "1/beta", strict=False)
    return (1 - lr * mu) ** steps * delta + beta**2 * rho**2 / (2 * mu)


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """Families, with the exact PL constant of nonconvex hinge sums where it is positive; the quadratic that attains it."""
    for kind in ("strongly-convex", "nonconvex"):
        for trial in random_problems(theorem, kind, quick=quick):
            if trial.problem.pl > 0:
                yield from trial.final_gaps("sam", partial(theorem.bound, beta=trial.problem.beta, mu=trial.problem.pl))
    beta, rho, steps = 2.0, 0.3, 100
    f = problems()["quadratic"](curvatures=[beta])
    k = {"beta": beta, "mu": beta, "rho": rho, "steps": steps, "delta": 1.0}
    yield confront(theorem, "quadratic, kappa 1, lr 1/beta", f, k, lr=1 / beta, x0=1.0)


T4PL = register(
    Theorem(
        id="t4pl",
        title="SAM, PL: linear convergence to a gap of beta^2 rho^2/(2 mu)",
        claims=("P3",),
        kind="upper",
        statement=__doc__,
        formula=bound,
        prescribed=step_size,
        check=check,
        example=STRONG,
        golden=(({"steps": 2}, 0.81 + 0.25 / 0.2),),
        attained=True,
        rule=Rule("gap", "(1 - lr mu)^T Delta + beta^2 rho^2/(2 mu)", up_to_rho=True),
        places=(Place("exact", "pl", "constant", note="the trap that shows a floor is numeric, not proved"),),
        mutants={"1 % lower": scaled(bound, 0.99), "no rho term": without(bound, rho=0.0)},
    )
)
