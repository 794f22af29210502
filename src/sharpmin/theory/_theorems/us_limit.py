"""US, the instance: m-USAM weights every sample by its sharpness, and so its limit is not the optimum, for every lr.

**Assumptions.** l_1 = (h1/2)(x - 1)^2 and l_2 = (h2/2)(x + 1)^2, each with probability 1/2;
y = x + rho grad l(x; xi), x+ = x - lr grad l(y; xi); lr -> 0.

**Statement.** A step is one of SGD on the curvatures h_i (1 + rho h_i), so x tends to

    [ h1 (1 + rho h1) - h2 (1 + rho h2) ] / [ h1 (1 + rho h1) + h2 (1 + rho h2) ]

instead of x* = (h1 - h2)/(h1 + h2). The recursion of E x is affine: E x_t has this limit for every stable lr, and x_t
itself as lr -> 0.

**Where it is attained.** In the limit, everywhere; measured at lr, lr/2, lr/4 and extrapolated.

**For training.** Without normalization sharp samples have more weight: this floor is the price of the preference for flat
minima.

**Source.** Derived here; matches claim P7 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from sharpmin.core.extras import optional
from sharpmin.core.rho import finite

from .._problems import problems
from .._simulation.simulate import simulate
from .._statements.cell import Cell
from .._statements.situation import ANY, Place
from .._statements.theorem import Theorem, register, scaled, without

if TYPE_CHECKING:
    import numpy as np
else:
    np = optional("numpy", extra="lab")


def bound(*, h1: float, h2: float, rho: float) -> float:
    """The limit of x."""
    a, b = (finite(h, name, "us-limit", low=0, strict=True) for name, h in (("h1", h1), ("h2", h2)))
    a, b = a * (1 + rho * a), b * (1 + rho * b)
    return (a - b) / (a + b)


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """E x at three step sizes, extrapolated to lr = 0 by Richardson's rule, errors propagated."""
    weights, top = np.array([1.0, -6.0, 8.0]) / 3.0, 0.02
    lanes = 4000 if quick else 10_000
    for h1, h2, rho in ((1.0, 0.2, 0.5), (1.0, 0.2, 1.0)) if quick else ((1.0, 0.2, 0.5), (1.0, 0.2, 1.0), (2.0, 0.5, 0.3)):
        f, limit = problems()["us"](h1=h1, h2=h2), theorem.bound(h1=h1, h2=h2, rho=rho)
        lr = np.repeat([top, top / 2, top / 4], lanes)
        run = simulate(f, method="m-usam", lr=lr, rho=rho, steps=1500, x0=0.7, seeds=np.arange(3 * lanes), means=False)
        table = run.x_final.values.reshape(3, lanes)
        error = math.sqrt(float((weights**2 * table.var(axis=1, ddof=1)).sum()) / lanes)
        where = f"h {h1:g} and {h2:g}, rho {rho:g}, lr {top:g} to {top / 4:g}, extrapolated"
        yield Cell(where, float(weights @ table.mean(axis=1)), "==", limit, error)


US_LIMIT = register(
    Theorem(
        id="us-limit",
        title="m-USAM on two parabolas: the limit gives sharper samples more weight",
        claims=("P7",),
        kind="limit",
        statement=__doc__,
        formula=bound,
        check=check,
        example={"h1": 1.0, "h2": 0.2, "rho": 0.5},
        golden=(
            ({}, 1.28 / 1.72),
            ({"rho": 1.0}, 1.76 / 2.24),
        ),
        attained=True,
        places=(Place("m-sam", ANY, "unnormalized", all_the_way=False),),
        mutants={
            "no rho term": without(bound, rho=0.0),
            "1 % lower": scaled(bound, 0.99),
            "1 % higher": scaled(bound, 1.01),
        },
    )
)
