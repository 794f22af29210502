"""E5. Stochastic SAM on a smooth, Lipschitz, nonconvex function stays trapped under noise, for every sample path.

**Assumptions.** The Lipschitz trap with l'_+- = f' +- s, 0 < s < beta rho min(theta, (1 - 2 theta)/2), each with
probability 1/2; constant rho; lr <= 1/beta; |x0| <= s/beta. m-SAM or n-SAM.

**Statement.** |x_t| <= s/beta for ever, so ||grad f(x_t)||^2 >= ((1 - 2 theta) beta rho - s)^2 for all t.

**Where it is attained.** At x0 = s/beta. With theta and s small, mean u^2 attains T5.

**For training.** Gradient noise need not free SAM from a trap that its own perturbation creates.

**Source.** Derived here; matches claim P6 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
"""

from __future__ import annotations

from collections.abc import Iterator

from .._problems import problems
from .._problems.e5 import e5_conditions
from .._simulation.simulate import simulate
from .._statements.assume import step_below
from .._statements.cell import Cell
from .._statements.situation import Place
from .._statements.theorem import Theorem, register, scaled


def bound(*, theta: float, s: float, beta: float, rho: float, lr: float | None = None) -> float:
    """((1 - 2 theta) beta rho - s)^2."""
    e5_conditions(theta, s, beta, rho)
    if lr is not None:
        step_below("e5", lr, 1 / beta, "1/beta", strict=False)
    return ((1 - 2 * theta) * beta * rho - s) ** 2


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """The least squared gradient over all steps, seeds and starts with |x0| <= s/beta."""
    beta, rho = 2.0, 0.5
    for theta, s in ((0.25, 0.2),) if quick else ((0.25, 0.2), (0.05, 0.04), (0.4, 0.09)):
        f = problems()["e5"](theta=theta, s=s, beta=beta, rho=rho)
        starts = [-s / beta, 0.0, s / beta] * 4
        for method in ("m-sam", "n-sam"):
            for lr in (0.01 / beta, 0.5 / beta, 1 / beta):
                run = simulate(f, method=method, lr=lr, rho=rho, steps=2000, x0=starts, seeds=range(12))
                where = f"{method}, theta {theta:g}, s {s:g}, beta lr {beta * lr:g}, 12 paths"
                limit = theorem.bound(theta=theta, s=s, beta=beta, rho=rho)
                yield Cell(where, float(run.min_square_gradient.min()), ">=", limit)


E5 = register(
    Theorem(
        id="e5",
        title="m- and n-SAM, nonconvex and Lipschitz: a trap that is never left",
        claims=("P6",),
        kind="lower",
        statement=__doc__,
        formula=bound,
        check=check,
        example={"theta": 0.25, "s": 0.2, "beta": 2.0, "rho": 0.5},
        golden=(({}, 0.09),),
        attained=True,
        places=(Place("m-sam n-sam", "nonconvex", "constant", all_the_way=False),),
        mutants={"1 % higher": scaled(bound, 1.01)},
    )
)
