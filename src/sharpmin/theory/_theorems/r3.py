"""R3. After a switch to rho = 0 the method converges to stationarity: the effect of rho before the switch decays like 1/T.

**Assumptions.** f is beta-smooth and bounded below; rho constant before the step S (the keyword `switch`), 0 from then on;
0 < lr <= 1/beta.

**Statement.** mean_{t<T} ||grad f(x_t)||^2 <= 2 Delta/(lr T) + beta^2 rho^2 min(S, T)/T        (lr = 1/beta unless given).

Up to S this is T4; after S every step is one of gradient descent, and the floor falls like S/T.

**Where it is attained.** On a quadratic of curvature beta at lr = 1/beta; on TRAP as theta -> 0, S -> inf.

**For training.** `Until(rho, stop=S)`: SAM chooses the region, the base optimizer finishes, and the second pass is saved.

**Source.** Derived here; matches claim P7 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
"""

from __future__ import annotations

from collections.abc import Iterator

from sharpmin.core.rho import Until, positive_integer

from .._problems import problems
from .._statements.assume import step_below
from .._statements.cell import Cell
from .._statements.confront import confront
from .._statements.random_problems import random_problems
from .._statements.situation import ANY, CONVEX, Place, Rule
from .._statements.statistic import start_gap
from .._statements.theorem import Theorem, register, scaled, without
from .t4 import step_size


def bound(*, beta: float, rho: float, switch: int, steps: int, delta: float, lr: float | None = None) -> float:
    """2 Delta/(lr T) + beta^2 rho^2 min(S, T)/T."""
    lr = step_size(beta=beta) if lr is None else lr
    step_below("r3", lr, 1 / beta, "1/beta", strict=False)
    return 2 * delta / (lr * steps) + beta**2 * rho**2 * min(positive_integer(switch, "switch", "r3"), steps) / steps


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """Families; the quadratic and TRAP(0.001), which attain the bound."""
    for trial in random_problems(theorem, "nonconvex", quick=quick, settings=3):
        f, delta = trial.problem, trial.gap()
        for lr, rho in zip(trial.lr, trial.rho, strict=True):
            for switch, steps in ((5, 10), (100, 300), (300, 300)):
                run = trial.run("sam", steps, lr=float(lr), rho=Until(float(rho), stop=switch))
                k = {"beta": f.beta, "rho": float(rho), "switch": switch, "steps": steps, "lr": float(lr)}
                for mean, d in zip(run.mean_square_gradient.values, delta, strict=True):
                    where = f"{f.name}: lr {lr:.3g}, rho {rho:.3g}, S {switch}, T {steps}"
                    limit, trivial = theorem.bound(delta=float(d), **k), 2 * f.beta * float(d)
                    yield Cell(where, float(mean), "<=", limit, trivial=trivial, resolution=f.resolution)
    beta, rho, switch, steps = 2.0, 0.5, 10_000, 12_000
    quadratic, trap = problems()["quadratic"](curvatures=[beta]), problems()["trap"](theta=0.001, beta=beta, rho=rho)
    for f, start in ((quadratic, rho), (trap, 0.0)):
        k = {"beta": beta, "rho": rho, "switch": switch, "steps": steps, "delta": start_gap(f, start)}
        where, radius = f"{f.name}, lr 1/beta, S {switch}, T {steps}", Until(rho, stop=switch)
        yield confront(theorem, where, f, k, lr=1 / beta, rho=radius, x0=start, quantity="squared-gradient")


R3 = register(
    Theorem(
        id="r3",
        title="SAM with a late switch to rho = 0, nonconvex: all the way",
        claims=("P7",),
        kind="upper",
        statement=__doc__,
        formula=bound,
        prescribed=step_size,
        check=check,
        example={**CONVEX, "switch": 10},
        golden=(
            ({}, 0.002 + 0.0025),
            ({"switch": 2000}, 0.002 + 0.25),
        ),
        attained=True,
        rule=Rule("squared-gradient", "2 Delta/(lr T) + beta^2 rho^2 min(S, T)/T", switch=True),
        places=(Place("exact", ANY, "constant"),),
        mutants={
            "1 % lower": scaled(bound, 0.99),
            "no rho term": without(bound, rho=0.0),
            "(S/T)^2 for S/T": lambda **k: bound(**{**k, "rho": k["rho"] * min(k["switch"] / k["steps"], 1.0) ** 0.5}),
        },
    )
)
