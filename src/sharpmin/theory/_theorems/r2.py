"""R2. Clipping the difference of SAM's two gradients at theta ||grad f|| goes all the way, without knowing beta for theta.

**Assumptions.** f is beta-smooth and bounded below; x+ = x - lr d, d = g + min(1, theta ||g||/||G - g||)(G - g), g = grad f(x),
G = grad f(y) with any radius rho, normalised or not; theta in (0, 1) is the keyword `clip`, as in `simulate`;
0 < lr <= 1/beta.

**Statement.** ||d - g|| <= theta ||g||, so

    mean_{t<T} ||grad f(x_t)||^2 <= 2 Delta/(lr T (1 - theta^2))        (lr = 1/beta unless given).

**Where it is attained.** On a quadratic of curvature beta at lr = 1/beta, as T grows, if the clip is active throughout.

**For training.** The remedy that needs no constant of the loss, and no extra gradient: both are at hand after the second
pass. With noisy norms a floor stays, unless theta decays too.

**Source.** Derived here; matches claim P7 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from sharpmin.core.rho import finite

from .._problems import problems
from .._simulation.simulate import simulate
from .._statements.assume import require, step_below
from .._statements.cell import Cell
from .._statements.random_problems import random_problems
from .._statements.situation import Place, Rule
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
    """Families, normalised and not; the quadratic that attains the bound; TRAP, where constant rho stays at 0.75."""
    for trial in random_problems("nonconvex", quick=quick):
        f, delta = trial.problem, trial.gap()
        for theta in THETAS:
            for method in ("sam", "usam"):
                for steps in (10, 300):
                    run = trial.run(method, steps, clip=theta)
                    at = partial(theorem.bound, beta=f.beta, clip=theta, steps=steps)
                    where, squares = f"{method}, theta {theta:g}, T {steps}", run.mean_square_gradient.values
                    yield from trial.compare(where, squares, lambda rho, at=at, **k: at(**k), 2 * f.beta * delta)
    beta, theta, steps = 2.0, 0.6, 100
    f = problems()["quadratic"](curvatures=[beta])
    run = simulate(f, method="sam", lr=1 / beta, rho=5.0, steps=steps, x0=1.0, clip=theta)
    limit = theorem.bound(beta=beta, clip=theta, steps=steps, delta=beta / 2)
    yield Cell(f"quadratic, theta {theta}, lr 1/beta", float(run.mean_square_gradient[0]), "<=", limit, trivial=beta * beta)
    trap, steps, start = problems()["trap"](theta=0.125, beta=beta, rho=0.5), 4000, 0.2
    run = simulate(trap, method="sam", lr=0.25, rho=0.5, steps=steps, x0=start, clip=0.5)
    delta0 = float(trap.gap(run.x_final.values * 0 + start)[0])
    limit = theorem.bound(beta=beta, clip=0.5, steps=steps, delta=delta0, lr=0.25)
    yield Cell(f"trap, rho 0.5, theta 0.5, T {steps}", float(run.mean_square_gradient[0]), "<=", limit, trivial=4 * delta0)


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
            Place("exact", "convex nonconvex", "clipped", all_the_way=True, note="needs no beta but for the step size"),
        ),
        mutants={"1 % lower": scaled(bound, 0.99), "no theta term": lambda **k: bound(**k) * (1 - k["clip"] ** 2)},
    )
)
