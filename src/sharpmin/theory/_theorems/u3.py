"""U3. USAM needs a smaller step than gradient descent: on quadratics it converges if and only if lr beta (1 + rho beta) < 2.

**Assumptions.** f is a quadratic with largest curvature beta; y = x + rho grad f(x), any rho; any lr, to be given.

**Statement.** Along the eigenvector of beta every step multiplies x by 1 - lr beta (1 + rho beta), so |x_t| grows or shrinks by

    |1 - lr beta (1 + rho beta)|

a step. Below lr = 2/(beta (1 + rho beta)) that is less than 1, and so is the factor of every smaller curvature: USAM
converges from every start. Above, it diverges from almost every start. Normalized SAM stays bounded up to lr = 2/beta.

**Where it is attained.** Everywhere: the statement is an equality.

**For training.** Dropping the normalization costs stability: rho beta is often above 1 early in training, and lr must be
smaller accordingly.

**Source.** Derived here; matches claim P7 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sharpmin.core.extras import optional

from .._problems import problems
from .._simulation.simulate import simulate
from .._statements.cell import Cell
from .._statements.situation import Place
from .._statements.theorem import Theorem, register, scaled, without

if TYPE_CHECKING:
    import numpy as np
else:
    np = optional("numpy", extra="lab")


def bound(*, beta: float, rho: float, lr: float) -> float:
    """|1 - lr beta (1 + rho beta)|: USAM converges if and only if this is below 1."""
    return abs(1 - lr * beta * (1 + rho * beta))


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """The factor, in one dimension and along the top of three; the threshold, to 0.5 %; normalized SAM beyond it."""
    beta, steps = 2.0, 200
    for rho in (0.0, 0.5, 5.0):
        threshold = 2 / (beta * (1 + rho * beta))
        lr = threshold * np.array([0.1, 0.9, 0.995, 1.005, 1.1])
        for curvatures in ([beta], [beta, 0.7, 0.1]):
            f = problems()["quadratic"](curvatures=curvatures)
            shape = (len(lr),) if f.dim == 1 else (len(lr), f.dim)
            run = simulate(f, method="usam", lr=lr, rho=rho, steps=steps, x0=np.ones(shape), means=False)
            where = f"quadratic in {f.dim} dimension{'s' * (f.dim > 1)}, beta rho {beta * rho:g}"
            top = np.abs(run.x_final.values.reshape(len(lr), f.dim)[:, 0]) ** (1 / steps)
            limits = [theorem.bound(beta=beta, rho=rho, lr=float(v)) for v in lr]
            for v, factor, limit in zip(lr, top, limits, strict=True):
                yield Cell(f"{where}, lr {v / threshold:g} of the threshold", float(factor), "==", limit)
            bounded = f.gap(run.x_final.values) < f.gap(np.ones(shape))
            predicted = sum(limit < 1 for limit in limits)
            yield Cell(f"{where}: how many of 5 lr converge", float(bounded.sum()), "==", float(predicted))
    f, rho, large = problems()["quadratic"](curvatures=[beta]), 5.0, 1.9 / beta
    cycle = large * beta * rho / (2 - large * beta)
    run = simulate(f, method="sam", lr=large, rho=rho, steps=steps, x0=1.0, record=range(steps + 1), means=False)
    yield Cell("normalized SAM at lr 1.9/beta: max |x| against its cycle", float(abs(run.x).max()), "<=", cycle)


U3 = register(
    Theorem(
        id="u3",
        title="USAM on quadratics: stable iff lr beta (1 + rho beta) < 2",
        claims=("P7",),
        kind="tight",
        statement=__doc__,
        formula=bound,
        check=check,
        example={"beta": 2.0, "rho": 0.5, "lr": 0.6},
        golden=(({}, 1.4),),
        attained=True,
        places=(
            Place("exact", "strongly-convex", "unnormalized", rank=1),
            Place("exact", "convex", "unnormalized"),
        ),
        mutants={"1 % lower": scaled(bound, 0.99), "1 % higher": scaled(bound, 1.01), "no rho term": without(bound, rho=0.0)},
    )
)
