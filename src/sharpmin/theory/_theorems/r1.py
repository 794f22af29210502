"""R1. With a capped radius, rho_t = min(rho, c ||grad f||), SAM converges to stationarity; close to it SAM becomes USAM.

**Assumptions.** f is beta-smooth and bounded below; y = x + rho_t g/||g|| with rho_t = min(rho, c ||g||), g = grad f(x), any
rho; beta c < 1; 0 < lr <= 1/beta.

**Statement.** mean_{t<T} ||grad f(x_t)||^2 <= 2 Delta/(lr T (1 - beta^2 c^2))        (lr = 1/beta unless given).

The difference of the two gradients is at most beta rho_t <= beta c ||g||: a relative error, whatever rho is.

**Where it is attained.** On a quadratic of curvature beta at lr = 1/beta, as T grows, if the cap is active throughout.

**For training.** `Capped(rho, c)` leaves SAM as it is while gradients are large and removes the floor of T4, for no extra
gradient. With noisy gradients a floor remains unless c decays too.

**Source.** Derived here; matches claim P7 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
"""

from __future__ import annotations

from collections.abc import Iterator

from sharpmin.core.rho import Capped

from .._problems import problems
from .._statements.assume import require, step_below
from .._statements.cell import Cell
from .._statements.confront import confront
from .._statements.random_problems import random_problems
from .._statements.situation import ANY, Place, Rule
from .._statements.statistic import start_gap
from .._statements.theorem import Theorem, register, scaled, without
from .t4 import step_size


def bound(*, beta: float, c: float, steps: int, delta: float, lr: float | None = None) -> float:
    """2 Delta/(lr T (1 - beta^2 c^2))."""
    require(beta * c < 1, "r1", f"beta c={beta * c:g} must be below 1, so c below 1/beta={1 / beta:g}")
    lr = step_size(beta=beta) if lr is None else lr
    step_below("r1", lr, 1 / beta, "1/beta", strict=False)
    return 2 * delta / (lr * steps * (1 - beta**2 * c**2))


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """Families; the quadratic that attains the bound; TRAP, where constant rho stays at 0.75."""
    for trial in random_problems(theorem, "nonconvex", quick=quick, settings=4):
        f, delta = trial.problem, trial.gap()
        for fraction, rho, lr in zip((0.1, 0.5, 0.9, 0.98), trial.rho, trial.lr, strict=True):
            c = fraction / f.beta
            for steps in (10, 300):
                run = trial.run("sam", steps, lr=float(lr), rho=Capped(float(rho), c=c))
                bounds = [theorem.bound(beta=f.beta, c=c, steps=steps, delta=float(d), lr=float(lr)) for d in delta]
                cells = zip(run.mean_square_gradient.values, bounds, delta, strict=True)
                for mean, limit, d in cells:
                    where = f"{f.name}: lr {lr:.3g}, rho {rho:.3g}, beta c {fraction:g}, T {steps}"
                    yield Cell(where, float(mean), "<=", limit, trivial=2 * f.beta * float(d), resolution=f.resolution)
    beta, r = 2.0, 0.6
    quadratic, trap = problems()["quadratic"](curvatures=[beta]), problems()["trap"](theta=0.125, beta=beta, rho=0.5)
    k = {"beta": beta, "c": r / beta, "steps": 100, "delta": beta / 2}
    radius = Capped(5.0, c=r / beta)
    yield confront(
        theorem, f"quadratic, beta c {r}, lr 1/beta", quadratic, k, lr=1 / beta, rho=radius, x0=1.0, trivial=beta * beta
    )
    k = {"beta": beta, "c": 0.25, "steps": 4000, "delta": start_gap(trap, 0.2), "lr": 0.25}
    where, radius = "trap, rho 0.5, c 0.25, T 4000", Capped(0.5, c=0.25)
    yield confront(theorem, where, trap, k, rho=radius, x0=0.2, trivial=4 * k["delta"])


R1 = register(
    Theorem(
        id="r1",
        title="SAM with rho capped at c ||grad||, nonconvex: all the way",
        claims=("P7",),
        kind="upper",
        statement=__doc__,
        formula=bound,
        prescribed=step_size,
        check=check,
        example={"beta": 1.0, "c": 0.5, "steps": 1000, "delta": 1.0},
        golden=(({"lr": 0.5}, 2 / 375),),
        attained=True,
        rule=Rule("squared-gradient", "2 Delta/(lr T (1 - beta^2 c^2))"),
        places=(
            Place(
                "exact",
                ANY,
                "capped",
                all_the_way=True,
                note="this needs beta c < 1; under PL the least gap is at most this mean over 2 mu",
            ),
        ),
        mutants={"1 % lower": scaled(bound, 0.99), "no c term": without(bound, c=0.0)},
    )
)
