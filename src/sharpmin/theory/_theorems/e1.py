"""E1. m-SAM on a strongly convex function can be held away from the optimum for ever, for every lr and sample path.

**Assumptions.** mu < beta with kappa = beta/mu large enough (> 2.3730 for the default w = rho/16, c = 0.9 c_max); w in
(0, rho/2), w < c < c_max = ((beta - mu)(rho - 2w) - mu (rho + w))/(2 mu); lr < 2/mu; a start in J = [c - w, c + w].

**Statement.** f = mu x^2/2 exactly, as the mean of two beta-smooth samples l_+- (see `problems()["e1"]`). On J the gradient at
the perturbed point is mu (x - c) for either sample: J is never left, almost surely, and for all T

    f(x_T) - f* >= mu (c - w)^2/2;    over all w and c the supremum is (beta - 2 mu)^2 rho^2/(8 mu).

**Where it is attained.** At the start x0 = c - w; from there x -> c, where the gap is mu c^2/2.

**For training.** The two samples are perturbed in opposite directions, and at their perturbed points both gradients lead to c
instead of 0. This needs the same batch in both passes, as is usual: n-SAM cannot be held like this (T7).

**Source.** Derived here; matches claim P4 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
"""

from __future__ import annotations

from collections.abc import Iterator

from .._problems import problems
from .._problems.e1 import e1_shape
from .._simulation.simulate import simulate
from .._statements.assume import require
from .._statements.cell import Cell
from .._statements.situation import Place
from .._statements.theorem import Theorem, register, scaled


def bound(
    *, beta: float, mu: float, rho: float, w: float | None = None, c: float | None = None, lr: float | None = None
) -> float:
    """mu (c - w)^2/2; 0 at rho = 0."""
    require(lr is None or lr < 2 / mu, "e1", f"lr={lr} must be below 2/mu={2 / mu:g}")
    if rho == 0:
        return 0.0
    w, c = e1_shape(beta, mu, rho, w, c)
    return mu * (c - w) ** 2 / 2


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """The least gap over all steps, seeds and starts in J, for step sizes up to 1.95/mu."""
    for beta, mu, rho in ((1.0, 0.1, 1.0),) if quick else ((1.0, 0.1, 1.0), (1.0, 0.4, 1.0), (3.0, 0.02, 0.2)):
        f, (w, c) = problems()["e1"](beta=beta, mu=mu, rho=rho), e1_shape(beta, mu, rho, None, None)
        for fraction in (0.001, 0.05, 0.5, 1.0, 1.95):
            starts, steps = [c - w, c, c + w] * 4, 500
            run = simulate(
                f, method="m-sam", lr=fraction / mu, rho=rho, steps=steps, x0=starts, seeds=range(12), record=range(steps + 1)
            )
            where = f"kappa {beta / mu:g}, mu lr {fraction:g}, 12 paths of {steps} steps"
            yield Cell(where, float(run.value.min()), ">=", theorem.bound(beta=beta, mu=mu, rho=rho))
            end = theorem.bound(beta=beta, mu=mu, rho=rho) * (c / (c - w)) ** 2  # x - c shrinks by 1 - lr mu a step
            if 0.05 <= fraction <= 1.0:
                yield Cell(f"{where}, at the end", float(run.value[-1].max()), "==", end)


E1 = register(
    Theorem(
        id="e1",
        title="m-SAM, strongly convex: a gap above mu (c - w)^2/2 at all times, almost surely",
        claims=("P4",),
        kind="lower",
        statement=__doc__,
        formula=bound,
        check=check,
        example={"beta": 1.0, "mu": 0.1, "rho": 1.0},
        golden=(({}, 0.1 * (3.065625 - 0.0625) ** 2 / 2),),
        attained=True,
        places=(Place("m-sam", "strongly-convex pl", "constant", all_the_way=False),),
        mutants={"1 % higher": scaled(bound, 1.01), "1 % lower": scaled(bound, 0.99)},
    )
)
