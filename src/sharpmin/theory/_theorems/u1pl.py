"""U1 for PL functions: deterministic USAM converges linearly to the optimum.

**Assumptions.** f is beta-smooth and PL(mu); y = x + rho grad f(x) with beta rho < 1; 0 < lr <= 1/beta.

**Statement.** f(x_T) - f* <= (1 - lr mu (1 - beta^2 rho^2))^T Delta        (lr = 1/beta unless given).

**Where it is attained.** On a quadratic with kappa = 1 at lr = 1/beta.

**For training.** Compare T4 for PL functions: the same algorithm with normalization stops at beta^2 rho^2/(2 mu).

**Source.** Derived here; matches claim P7 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from .._problems import problems
from .._statements.assume import step_below
from .._statements.cell import Cell
from .._statements.confront import confront
from .._statements.situation import STRONG, Place, Rule
from .._statements.theorem import Theorem, register, scaled, without
from .t4 import step_size
from .u1 import shrink, unnormalized


def bound(*, beta: float, mu: float, rho: float, steps: int, delta: float, lr: float | None = None) -> float:
    """(1 - lr mu (1 - beta^2 rho^2))^T Delta."""
    lr = step_size(beta=beta) if lr is None else lr
    step_below("u1pl", lr, 1 / beta, "1/beta", strict=False)
    return (1 - lr * mu * shrink(beta, rho)) ** steps * delta


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """Families, with exact PL constants; the quadratic that attains the bound."""
    for kind in ("strongly-convex", "nonconvex"):
        for trial in unnormalized(theorem, kind, quick):
            if trial.problem.pl > 0:
                yield from trial.final_gaps(
                    "usam", partial(theorem.bound, beta=trial.problem.beta, mu=trial.problem.pl), (10, 100)
                )
    beta, r, steps = 2.0, 0.6, 10
    f = problems()["quadratic"](curvatures=[beta])
    k = {"beta": beta, "mu": beta, "rho": r / beta, "steps": steps, "delta": beta / 2}
    where = f"quadratic, kappa 1, beta rho {r}, lr 1/beta"
    yield confront(theorem, where, f, k, method="usam", lr=1 / beta, x0=1.0, trivial=beta / 2)


U1PL = register(
    Theorem(
        id="u1pl",
        title="USAM, PL: linear convergence to the optimum, if beta rho < 1",
        claims=("P7",),
        kind="upper",
        statement=__doc__,
        formula=bound,
        prescribed=step_size,
        check=check,
        example=STRONG,
        golden=(({"steps": 3}, (1 - 0.1 * 0.75) ** 3),),
        attained=True,
        rule=Rule("gap", "(1 - lr mu (1 - beta^2 rho^2))^T Delta"),
        places=(
            Place("exact", "strongly-convex", "unnormalized", all_the_way=True, rank=1),
            Place("exact", "pl", "unnormalized", all_the_way=True, note="this needs beta rho < 1"),
        ),
        mutants={"1 % lower": scaled(bound, 0.99), "no rho term": without(bound, rho=0.0)},
    )
)
