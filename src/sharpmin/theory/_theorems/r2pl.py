"""R2 for PL functions: SAM with the difference clipped converges linearly to the optimum.

**Assumptions.** As R2, and f is PL(mu): ||grad f||^2 >= 2 mu (f - f*).

**Statement.** f(x_T) - f* <= (1 - lr mu (1 - theta^2))^T Delta        (lr = 1/beta unless given; theta is the keyword `clip`).

Every step has f(x+) <= f(x) - (lr/2)(1 - theta^2) ||grad f(x)||^2, because ||d - g|| <= theta ||g||; PL turns that into a
factor.

**Where it is attained.** On a quadratic with kappa = 1 at lr = 1/beta, if the clip is active throughout.

**For training.** Compare T4 for PL functions, where the same algorithm without the clip stops at beta^2 rho^2/(2 mu).

**Source.** Derived here; matches claim P7 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from .._problems import problems
from .._statements.assume import step_below
from .._statements.cell import Cell
from .._statements.confront import confront
from .._statements.random_problems import random_problems
from .._statements.situation import Place, Rule
from .._statements.theorem import Theorem, register, scaled
from .r2 import THETAS, keep
from .t4 import step_size


def bound(*, beta: float, mu: float, clip: float, steps: int, delta: float, lr: float | None = None) -> float:
    """(1 - lr mu (1 - theta^2))^T Delta."""
    lr = step_size(beta=beta) if lr is None else lr
    step_below("r2pl", lr, 1 / beta, "1/beta", strict=False)
    return (1 - lr * mu * keep("r2pl", clip)) ** steps * delta


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """Families, with exact PL constants; the quadratic that attains the bound."""
    for kind in ("strongly-convex", "nonconvex"):
        for trial in random_problems(theorem, kind, quick=quick):
            f, delta = trial.problem, trial.gap()
            if f.pl <= 0:
                continue
            for theta in THETAS:
                run = trial.run("sam", 100, clip=theta, record=(1, 10, 100), means=False)
                for steps, value in zip((1, 10, 100), run.value.values, strict=True):
                    at = partial(theorem.bound, beta=f.beta, mu=f.pl, clip=theta, steps=steps)
                    gaps = value - f.f_star
                    yield from trial.compare(f"sam, theta {theta:g}, T {steps}", gaps, lambda rho, at=at, **k: at(**k), delta)
    beta, theta, steps = 2.0, 0.6, 10
    f = problems()["quadratic"](curvatures=[beta])
    k = {"beta": beta, "mu": beta, "clip": theta, "steps": steps, "delta": beta / 2}
    where = f"quadratic, kappa 1, theta {theta}, lr 1/beta, T {steps}"
    yield confront(theorem, where, f, k, lr=1 / beta, rho=5.0, x0=1.0, trivial=beta / 2)


R2PL = register(
    Theorem(
        id="r2pl",
        title="SAM with the difference clipped, PL: linear convergence to the optimum",
        claims=("P7",),
        kind="upper",
        statement=__doc__,
        formula=bound,
        prescribed=step_size,
        check=check,
        example={"beta": 1.0, "mu": 0.1, "clip": 0.5, "steps": 3, "delta": 1.0},
        golden=(({}, 0.925**3),),
        attained=True,
        rule=Rule("gap", "(1 - lr mu (1 - theta^2))^T Delta"),
        places=(
            Place("exact", "strongly-convex pl", "clipped", all_the_way=True, note="beta is needed for the step size alone"),
        ),
        mutants={
            "1 % lower": scaled(bound, 0.99),
            "no theta term": lambda **k: bound(**{**k, "clip": 1e-9}),
        },
    )
)
