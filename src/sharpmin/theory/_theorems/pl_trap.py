"""PL trap. The Polyak-Lojasiewicz condition does not exclude traps for SAM: an attracting curve far from the minima.

**Assumptions.** f(u, v) = mu (v - 3 L cos(u/L))^2/2 with L = rho/3.5: PL(mu), minimal along a wave, smooth but not globally
beta-smooth; constant rho; starts within 0.002 L of (-2.306926 L, 0.687922 L); lr in [0.01/mu, 0.5/mu].

**Statement.** Numeric: ||grad f(x_t)|| >= (6.5/3.5) mu rho for all t, while ||grad f(y_t)|| -> 0: SAM converges to a curve
of fixed points whose perturbed points lie on the valley's floor.

**Where it is nearly attained.** At rest the gradient is 6.587 mu L: 1.3 % above.

**For training.** Over-parametrized losses are often close to PL. This is enough for gradient descent to reach the minimum, but
not for SAM.

**Source.** Derived here; matches claim P3 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from sharpmin.core.extras import optional

from .._problems import problems
from .._simulation.simulate import simulate
from .._statements.assume import require
from .._statements.cell import Cell
from .._statements.situation import Place
from .._statements.theorem import Theorem, register, scaled

if TYPE_CHECKING:
    import numpy as np
else:
    np = optional("numpy", extra="lab")

CENTER = (-2.306926, 0.687922)


def bound(*, mu: float, rho: float, lr: float | None = None) -> float:
    """(6.5/3.5) mu rho."""
    require(lr is None or 0.01 <= lr * mu <= 0.5, "pl-trap", f"lr={lr} must be in [0.01/mu, 0.5/mu], where it was tried")
    return 6.5 / 3.5 * mu * rho


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """Starts on a circle around the center and at it; the gradient at the perturbed point once at rest."""
    angles = np.linspace(0, 2 * np.pi, 24)
    circle = np.concatenate([np.zeros((1, 2)), 0.002 * np.stack([np.cos(angles), np.sin(angles)], axis=1)])
    for mu, rho in ((1.0, 3.5),) if quick else ((1.0, 3.5), (0.2, 0.7)):
        f, starts = problems()["pl-trap"](mu=mu, rho=rho), (np.array(CENTER) + circle) * rho / 3.5
        for s in (0.01, 0.1, 0.5):
            run = simulate(f, method="sam", lr=s / mu, rho=rho, steps=4000, x0=starts)
            least = math.sqrt(float(run.min_square_gradient.min()))
            yield Cell(f"mu lr {s:g}, rho {rho:g}, 25 starts", least, ">=", theorem.bound(mu=mu, rho=rho, lr=s / mu))
            x = run.x_final.values
            g = f.gradient(x)
            there = float(f.norm(f.gradient(x + rho * g / f.norm(g)[:, None])).max())
            yield Cell(f"mu lr {s:g}, rho {rho:g}: ||grad f(y)|| at rest", there, "<=", 1e-9 * mu * rho)


PL_TRAP = register(
    Theorem(
        id="pl-trap",
        title="SAM, PL: an attracting curve of fixed points, far from the minima",
        claims=("P3",),
        kind="numeric",
        statement=__doc__,
        formula=bound,
        check=check,
        example={"mu": 1.0, "rho": 3.5},
        golden=(({}, 6.5),),
        places=(Place("exact", "pl", "constant", all_the_way=False),),
        mutants={"2 % higher": scaled(bound, 1.02)},
    )
)
