"""U1. Without normalization SAM has no floor: deterministic USAM converges to stationarity on smooth nonconvex functions.

**Assumptions.** f is beta-smooth and bounded below; y = x + rho grad f(x) with beta rho < 1; 0 < lr <= 1/beta.

**Statement.** mean_{t<T} ||grad f(x_t)||^2 <= 2 Delta/(lr T (1 - beta^2 rho^2))        (lr = 1/beta unless given).

The difference of the two gradients of a step is at most beta rho ||grad f||: a relative error, not an absolute one.

**Where it is attained.** On a quadratic of curvature beta at lr = 1/beta, as T grows.

**For training.** Without normalization, or with the radius capped at c ||g||, beta c < 1, the floor of T4 is gone.

**Source.** Derived here; matches claim P7 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from .._problems import problems
from .._statements.assume import require, step_below
from .._statements.cell import Cell
from .._statements.confront import confront
from .._statements.random_problems import Draw, random_problems
from .._statements.situation import CONVEX, Place, Rule
from .._statements.theorem import Theorem, register, scaled, without
from .t4 import step_size


def shrink(beta: float, rho: float) -> float:
    """1 - beta^2 rho^2, where beta rho < 1."""
    require(beta * rho < 1, "u1", f"beta rho={beta * rho:g} must be below 1, so rho below 1/beta={1 / beta:g}")
    return 1 - beta**2 * rho**2


def bound(*, beta: float, rho: float, steps: int, delta: float, lr: float | None = None) -> float:
    """2 Delta/(lr T (1 - beta^2 rho^2))."""
    lr = step_size(beta=beta) if lr is None else lr
    step_below("u1", lr, 1 / beta, "1/beta", strict=False)
    return 2 * delta / (lr * steps * shrink(beta, rho))


def unnormalized(theorem: Theorem, kind: str, quick: bool) -> Iterator[Draw]:
    """Trials whose beta rho is spread over (0, 0.98)."""
    for trial in random_problems(theorem, kind, quick=quick):
        r = trial.rho / trial.rho.max() * 0.98
        yield Draw(trial.problem, trial.x0, trial.lr, r / trial.problem.beta)


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """Families; the quadratic at lr = 1/beta, where the bound is attained."""
    for trial in unnormalized(theorem, "nonconvex", quick):
        yield from trial.mean_squares("usam", partial(theorem.bound, beta=trial.problem.beta))
    beta, r, steps = 2.0, 0.6, 100
    f = problems()["quadratic"](curvatures=[beta])
    k = {"beta": beta, "rho": r / beta, "steps": steps, "delta": beta / 2}
    where = f"quadratic, beta rho {r}, lr 1/beta"
    yield confront(theorem, where, f, k, method="usam", lr=1 / beta, x0=1.0, trivial=beta * beta)


U1 = register(
    Theorem(
        id="u1",
        title="USAM, nonconvex: all the way, if beta rho < 1",
        claims=("P7",),
        kind="upper",
        statement=__doc__,
        formula=bound,
        prescribed=step_size,
        check=check,
        example=CONVEX,
        golden=(({"lr": 0.5}, 2 / (0.5 * 1000 * 0.75)),),
        attained=True,
        rule=Rule("squared-gradient", "2 Delta/(lr T (1 - beta^2 rho^2))"),
        places=(
            Place("exact", "convex", "unnormalized", all_the_way=True, rank=1),
            Place("exact", "nonconvex", "unnormalized", all_the_way=True, note="this needs beta rho < 1"),
        ),
        mutants={"1 % lower": scaled(bound, 0.99), "no rho term": without(bound, rho=0.0)},
    )
)
