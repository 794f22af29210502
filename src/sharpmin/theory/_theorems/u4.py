"""U4. The exact worst case of deterministic USAM over strongly convex, smooth functions is a quadratic.

**Assumptions.** f is mu-strongly convex and beta-smooth; y = x + rho grad f(x), any rho; any lr, to be given.

**Statement.** The largest f(x_T) - f* over all such f with f(x0) - f* = Delta is

    Delta max_{lam in [mu, beta]} (1 - lr lam (1 + rho lam))^(2T),    with the maximum at lam = mu or lam = beta.

Numeric: no proof is known here. It agrees with the performance-estimation problem (a semidefinite program) in 398 cases.
It is special to USAM: with the gradient normalized, functions of two variables are worse than every quadratic (KAPPA2, WEDGE).

**Where it is attained.** On the quadratic of curvature mu or beta.

**For training.** USAM needs lr beta (1 + rho beta) < 2 to be stable: a large rho calls for a smaller learning rate.

**Source.** Derived here; matches claim P7 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from .._problems import problems
from .._simulation.simulate import simulate
from .._statements.cell import Cell
from .._statements.random_problems import random_problems
from .._statements.situation import STRONG, Place
from .._statements.theorem import Theorem, register, scaled


def bound(*, beta: float, mu: float, rho: float, lr: float, steps: int, delta: float) -> float:
    """Delta max over {mu, beta} of (1 - lr lam (1 + rho lam))^(2T)."""
    factor = max(abs(1 - lr * lam * (1 + rho * lam)) for lam in (mu, beta))
    try:
        return float(delta * factor ** (2 * steps))
    except OverflowError:
        raise ValueError(
            f"u4: lr={lr:g} lets the worst case grow {factor:.4g}^2 times a step, past 1e308; give a smaller lr"
        ) from None


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """Equality on the worse of the two quadratics; no more than that on random functions."""
    for beta, mu, rho, lr, steps in (
        (1.0, 0.1, 0.5, 0.8, 1),
        (1.0, 0.1, 0.5, 0.8, 5),
        (2.0, 0.5, 1.5, 0.2, 3),
        (1.0, 1.0, 0.0, 1.9, 4),
    ):
        gaps = []
        for lam in (mu, beta):
            f = problems()["quadratic"](curvatures=[lam])
            run = simulate(f, method="usam", lr=lr, rho=rho, steps=steps, x0=(2 / lam) ** 0.5, means=False)
            gaps.append(float(f.gap(run.x_final.values)[0]))
        limit = theorem.bound(beta=beta, mu=mu, rho=rho, lr=lr, steps=steps, delta=1.0)
        yield Cell(f"quadratics, beta {beta:g}, mu {mu:g}, rho {rho:g}, lr {lr:g}, T {steps}", max(gaps), "==", limit)
    for trial in random_problems(theorem, "strongly-convex", quick=quick, top=1.5):
        f = trial.problem
        for steps in (1, 3, 10):
            gaps_now = f.gap(trial.run("usam", steps, means=False).x_final.values)
            at = partial(theorem.bound, beta=f.beta, mu=f.mu, steps=steps)
            yield from trial.compare(f"usam, T {steps}", gaps_now, at, trial.gap())


U4 = register(
    Theorem(
        id="u4",
        title="USAM, strongly convex: the exact worst case is a quadratic",
        claims=("P7",),
        kind="numeric",
        statement=__doc__,
        formula=bound,
        check=check,
        example={**STRONG, "lr": 0.8},
        golden=(({"steps": 1}, 0.839056),),
        attained=True,
        places=(Place("exact", "strongly-convex", "unnormalized"),),
        mutants={"1 % lower": scaled(bound, 0.99), "1 % higher": scaled(bound, 1.01)},
    )
)
