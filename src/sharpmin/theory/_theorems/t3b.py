"""T3b. The best iterate of deterministic SAM on a convex function converges faster than the average of T3.

**Assumptions.** f is convex and beta-smooth; 0 < lr < 1/beta.

**Statement.** With u_t = ||grad f(x_t)||,

    min_{t<T} u_t^2 <= max{ beta^4 lr^2 rho^2/(4 (1 - beta lr)^2), Delta/(lr (1 - beta lr/2) T) }.

The prescribed lr = min{1/(2 beta), (4 Delta/(3 beta^4 rho^2 T))^(1/3)} gives the rate T^(-2/3).

**Where it is attained.** The first term on the two-cycle (C1) of a quadratic of curvature beta as lr -> 0; the second
at T = 1 as beta lr -> 1.

**For training.** Keep the best checkpoint: it is closer to stationary than the last or the average one.

**Source.** Derived here; matches claim P2 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

from .._problems import problems
from .._statements.assume import over, step_below
from .._statements.cell import Cell
from .._statements.confront import confront
from .._statements.random_problems import random_problems
from .._statements.situation import CONVEX, Place, Rule
from .._statements.theorem import Theorem, register, scaled, without


def step_size(*, beta: float, rho: float, steps: int, delta: float) -> float:
    """min{1/(2 beta), (4 Delta/(3 beta^4 rho^2 T))^(1/3)}; 0 where Delta is, since then every step size is right."""
    return min(1 / (2 * beta), math.cbrt(over(4 * delta, 3 * beta**4 * rho**2 * steps)))


def bound(*, beta: float, rho: float, steps: int, delta: float, lr: float | None = None) -> float:
    """max{floor, Delta/(lr (1 - beta lr/2) T)}."""
    lr = step_size(beta=beta, rho=rho, steps=steps, delta=delta) if lr is None else lr
    step_below("t3b", lr, 1 / beta, "1/beta", strict=True)
    start = delta / (lr * (1 - beta * lr / 2) * steps) if delta else 0.0
    return max(beta**4 * lr**2 * rho**2 / (4 * (1 - beta * lr) ** 2), start)


def second_term_lower(*, delta: float, **k: float) -> float:
    """A mutant: the term of the start, 1 % lower."""
    return bound(**k, delta=0.99 * delta)  # type: ignore[arg-type]


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """Families; the two-cycle at beta lr = 0.005, where the floor is attained to 0.5 %."""
    for trial in random_problems(theorem, "convex", quick=quick, top=0.95):
        f = trial.problem
        for steps in (10, 300):
            least = trial.run("sam", steps).min_square_gradient.values
            at = partial(theorem.bound, beta=f.beta, steps=steps)
            yield from trial.compare(f"sam, best of T {steps}", least, at, 2 * f.beta * trial.gap())
    beta, quadratic = 2.0, problems()["quadratic"](curvatures=[2.0])
    for s, rho, steps, start in ((0.005, 0.3, 1000, 0.005 * 0.3 / 1.995), (0.999, 1e-9, 1, 1.0)):
        k = {"beta": beta, "rho": rho, "steps": steps, "delta": beta * start**2 / 2, "lr": s / beta}
        yield confront(theorem, f"quadratic, beta lr {s}, rho {rho:g}, T {steps}", quadratic, k, x0=start)


T3B = register(
    Theorem(
        id="t3b",
        title="SAM, convex: the best iterate converges at T^(-2/3)",
        claims=("P2",),
        kind="upper",
        statement=__doc__,
        formula=bound,
        prescribed=step_size,
        check=check,
        example=CONVEX,
        golden=(({"lr": 0.5}, max(0.25 * 0.25 / (4 * 0.25), 1 / (0.5 * 0.75 * 1000))),),
        attained=True,
        rule=Rule(
            "least-squared-gradient",
            "max{beta^4 lr^2 rho^2/4, Delta/(lr T)}, up to 1 - beta lr",
            vanishing=True,
            maximum=True,
            up_to_rho=True,
        ),
        places=(Place("exact", "convex", "constant", all_the_way=True, rank=1),),
        mutants={
            "1 % lower": scaled(bound, 0.99),
            "1 % lower, second term": second_term_lower,
            "no rho term": without(bound, rho=0.0),
        },
    )
)
