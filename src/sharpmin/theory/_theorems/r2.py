"""R2. With the difference of its two gradients clipped at theta ||grad f||, SAM converges to stationarity, for every theta < 1.

**Assumptions.** f is beta-smooth and bounded below; x+ = x - lr d, d = g + min(1, theta ||g||/||G - g||)(G - g), g = grad f(x),
G = grad f(y) with any radius rho, normalized or not; theta in (0, 1) is the keyword `clip`, as in `simulate`;
0 < lr <= 1/beta.

**Statement.** ||d - g|| <= theta ||g||, so

    mean_{t<T} ||grad f(x_t)||^2 <= 2 Delta/(lr T (1 - theta^2))        (lr = 1/beta unless given).

**Where it is attained.** On a quadratic of curvature beta at lr = 1/beta, as T grows, if the clip is active throughout.

**For training.** This remedy needs no constant of the loss and no extra gradient: both gradients are known after the second
pass. With noisy gradients a floor remains unless theta decays too.

**Source.** Derived here; matches claim P7 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from sharpmin.core.rho import finite

from .._problems import problems
from .._statements.assume import require, step_below
from .._statements.cell import Cell
from .._statements.confront import confront
from .._statements.random_problems import random_problems
from .._statements.situation import Place, Rule
from .._statements.statistic import start_gap
from .._statements.theorem import Theorem, register, scaled
from .t4 import step_size

THETAS = (0.1, 0.5, 0.9)


def keep(owner: str, clip: float) -> float:
    """1 - theta^2, where theta is in (0, 1)."""
    theta = finite(clip, "clip", owner, low=0, strict=True)
    require(theta < 1, owner, f"clip={clip} (theta) must be in (0, 1)")
    return 1 - theta**2


def bound(*, beta: float, clip: float, steps: int, delta: float, lr: float | None = None) -> float:
    """2 Delta/(lr T (1 - theta^2))."""
    lr = step_size(beta=beta) if lr is None else lr
    step_below("r2", lr, 1 / beta, "1/beta", strict=False)
    return 2 * delta / (lr * steps * keep("r2", clip))


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """Families, normalized and not; the quadratic that attains the bound; TRAP, where constant rho stays at 0.75."""
    for trial in random_problems(theorem, "nonconvex", quick=quick):
        f, delta = trial.problem, trial.gap()
        for theta in THETAS:
            for method in ("sam", "usam"):
                for steps in (10, 300):
                    run = trial.run(method, steps, clip=theta)
                    at = partial(theorem.bound, beta=f.beta, clip=theta, steps=steps)
                    where, squares = f"{method}, theta {theta:g}, T {steps}", run.mean_square_gradient.values
                    yield from trial.compare(where, squares, lambda rho, at=at, **k: at(**k), 2 * f.beta * delta)
    beta, theta = 2.0, 0.6
    quadratic, trap = problems()["quadratic"](curvatures=[beta]), problems()["trap"](theta=0.125, beta=beta, rho=0.5)
    k = {"beta": beta, "clip": theta, "steps": 100, "delta": beta / 2}
    where = f"quadratic, theta {theta}, lr 1/beta"
    yield confront(theorem, where, quadratic, k, lr=1 / beta, rho=5.0, x0=1.0, trivial=beta * beta)
    k = {"beta": beta, "clip": 0.5, "steps": 4000, "delta": start_gap(trap, 0.2), "lr": 0.25}
    yield confront(theorem, "trap, rho 0.5, theta 0.5, T 4000", trap, k, rho=0.5, x0=0.2, trivial=4 * k["delta"])


R2 = register(
    Theorem(
        id="r2",
        title="SAM with the difference clipped at theta ||grad||, nonconvex: all the way",
        claims=("P7",),
        kind="upper",
        statement=__doc__,
        formula=bound,
        prescribed=step_size,
        check=check,
        example={"beta": 1.0, "clip": 0.5, "steps": 1000, "delta": 1.0},
        golden=(({"lr": 0.5}, 2 / 375),),
        attained=True,
        rule=Rule("squared-gradient", "2 Delta/(lr T (1 - theta^2))"),
        places=(
            Place("exact", "strongly-convex pl", "clipped", all_the_way=True, rank=1),
            Place("exact", "convex nonconvex", "clipped", all_the_way=True, note="beta is needed for the step size alone"),
        ),
        mutants={"1 % lower": scaled(bound, 0.99), "no theta term": lambda **k: bound(**k) * (1 - k["clip"] ** 2)},
    )
)
