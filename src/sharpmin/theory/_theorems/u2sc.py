"""U2 for strongly convex functions: deterministic USAM converges as fast as the bound for gradient descent, for every rho.

**Assumptions.** f is mu-strongly convex and beta-smooth; y = x + rho grad f(x), any rho; 0 < lr <= 1/(beta (1 + beta rho/2)).

**Statement.** f(x_T) - f* <= (1 - 2 mu lr (1 - beta lr/2))^T Delta        (lr at its limit unless given).

**Where it is attained.** On a quadratic with kappa = 1 and lr at its limit, for every rho.

**For training.** Compare T1: with normalization the same rate holds only down to a ball that shrinks with lr.

**Source.** Derived here; matches claim P7 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from .._problems import problems
from .._statements.cell import Cell
from .._statements.confront import confront
from .._statements.situation import STRONG, Place, Rule
from .._statements.theorem import Theorem, register, scaled, without
from .u2 import descent, slowed, step_size


def bound(*, beta: float, mu: float, rho: float, steps: int, delta: float, lr: float | None = None) -> float:
    """(1 - 2 mu lr (1 - beta lr/2))^T Delta."""
    return (1 - 2 * mu * descent("u2sc", beta, rho, lr)[1]) ** steps * delta


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """Families; the quadratic that attains the bound, for a small and a large rho."""
    for trial in slowed(theorem, "strongly-convex", quick):
        at = partial(theorem.bound, beta=trial.problem.beta, mu=trial.problem.mu)
        yield from trial.final_gaps("usam", at, (1, 10, 100))
    beta, steps = 2.0, 10
    f = problems()["quadratic"](curvatures=[beta])
    for r in (0.5, 5.0):
        lr = theorem.step_size(beta=beta, rho=r / beta)
        k = {"beta": beta, "mu": beta, "rho": r / beta, "steps": steps, "delta": beta / 2}
        where = f"quadratic, kappa 1, beta rho {r:g}, lr at its limit, T {steps}"
        yield confront(theorem, where, f, k, method="usam", lr=lr, x0=1.0, trivial=beta / 2)


U2SC = register(
    Theorem(
        id="u2sc",
        title="USAM, strongly convex: the rate of gradient descent, for every rho",
        claims=("P7",),
        kind="upper",
        statement=__doc__,
        formula=bound,
        prescribed=step_size,
        check=check,
        example=STRONG,
        golden=(({"steps": 2}, 0.904**2),),
        attained=True,
        rule=Rule("gap", "(1 - 2 mu lr (1 - beta lr/2))^T Delta"),
        places=(
            Place(
                "exact",
                "strongly-convex",
                "unnormalized",
                all_the_way=True,
                note="u2sc holds for any rho, u1pl for beta rho < 1",
            ),
        ),
        mutants={
            "1 % lower": scaled(bound, 0.99),
            "lr at its limit without rho": without(bound, rho=0.0),
        },
    )
)
