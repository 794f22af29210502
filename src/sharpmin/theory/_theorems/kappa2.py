"""KAPPA2. In two dimensions SAM has a two-cycle whose gap is of order kappa times that of any quadratic.

**Assumptions.** kappa = beta/mu > 13/3, constant rho, a constant lr up to a limit (`problems()["kappa2"]` refuses more), which
is at least 1/(2 beta sqrt(kappa)) from kappa = 8 on.

**Statement.** There is a mu-strongly convex, beta-smooth function of the plane, `problems()["kappa2"]`, on which SAM
alternates between the points x_+- = (0, +-(3/10) beta lr rho), with

    f(x_+-) - f* = (81 kappa + 144) beta^3 lr^2 rho^2/3200.

It is one of a family: for a unit vector e, e_1, e_2 > 0, and theta in (0, 1) the same construction gives the gap
(theta^2/8) (e_1^2 kappa + e_2^2) beta^3 lr^2 rho^2. With q = theta beta lr/2 and m = mu/beta a function of the class
through its points exists if and only if e_1^2 (m + q)^2/m <= e_2^2 (theta - m - q)(1 + q - theta). Here e = (3/5, 4/5)
and theta = 3/4.

**Where it is attained.** Everywhere: the statement is an equality. As lr -> 0 the largest gap of the family, divided by the
F of T1, is .329, .417, .593, .751, .914, .972, .997 at kappa = 4, 10, 30, 100, 1e3, 1e4, 1e6: F is sharp, constant 1. The
proof is in docs/kappa.md. That the cycle attracts is measured, on this function, kappa 5 to 1000: from all
starts around x_+ at half its distance to the axis. It need not attract on another function through the same points.

**For training.** The price of constant rho without noise is lr^2 kappa, not lr^2: badly conditioned problems need a smaller
learning rate towards the end.

**Source.** Derived here; matches claim P1 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from sharpmin.core.extras import optional

from .._problems import problems
from .._problems.kappa2 import THETA, E, feasible, gap, worst_shape
from .._simulation.simulate import simulate
from .._statements.cell import Cell
from .._statements.situation import Place
from .._statements.theorem import Theorem, register, scaled

if TYPE_CHECKING:
    import numpy as np

    from .._problems.problem import Problem
else:
    np = optional("numpy", extra="lab")


def bound(*, beta: float, mu: float, rho: float, lr: float) -> float:
    """(81 kappa + 144) beta^3 lr^2 rho^2/3200."""
    feasible("kappa2", beta, mu, lr)
    return beta * rho**2 * gap(mu / beta, beta * lr)


def start(*, beta: float, rho: float, lr: float) -> tuple[float, float]:
    """x_+ = (0, theta e_2 beta lr rho/2)."""
    return 0.0, THETA * E[1] * beta * lr * rho / 2


def supremum(kappa: float) -> float:
    """The largest gap of the family over the F of T1, as lr -> 0; kappa >= 4."""
    mu = 1 / kappa
    e, theta = worst_shape(mu)
    return 8 * mu * gap(mu, 1.0, e, theta)


def kept(
    f: Problem, point: tuple[float, float], limit: float, *, lr: float, rho: float, share: float, where: str
) -> Iterator[Cell]:
    """SAM from a point of the cycle, and from four around it at a share of its height, until they are back to rounding."""
    circle = np.array([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]]) / math.sqrt(2)
    starts = {"on the cycle": np.array([point]), "around it": np.array(point) + share * point[1] * circle}
    for (place, x0), steps in zip(starts.items(), (2000, round(21 / (lr * f.mu))), strict=True):
        gaps = f.gap(simulate(f, method="sam", lr=lr, rho=rho, steps=steps, x0=x0, means=False).x_final.values)
        yield Cell(f"{where}, {place}, T {steps}", float(gaps[np.argmax(np.abs(gaps - limit))]), "==", limit)


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """Starts on the cycle and around it, for kappa from 5 to 1000."""
    beta, rho = 2.0, 0.7
    cases = ((8.0, 0.1767), (30.0, 0.09), (100.0, 0.05), (5.0, 0.05), (1000.0, 0.04))
    for kappa, step in cases[:3] if quick else cases:
        k = {"beta": beta, "mu": beta / kappa, "rho": rho, "lr": step / beta}
        point, where = start(beta=beta, rho=rho, lr=step / beta), f"kappa {kappa:g}, beta lr {step:g}"
        yield from kept(problems()["kappa2"](**k), point, theorem.bound(**k), lr=step / beta, rho=rho, share=0.5, where=where)


KAPPA2 = register(
    Theorem(
        id="kappa2",
        title="SAM in the plane: a two-cycle with kappa times the gap of a quadratic",
        claims=("P1",),
        kind="tight",
        statement=__doc__,
        formula=bound,
        check=check,
        example={"beta": 1.0, "mu": 0.01, "rho": 1.0, "lr": 0.05},
        golden=(({}, 0.006440625), ({"beta": 2.0, "mu": 0.02, "rho": 3.0, "lr": 0.025}, 0.006440625 * 18)),
        attained=True,
        places=(Place("exact", "strongly-convex", "constant", rank=3),),
        mutants={
            "1 % lower": scaled(bound, 0.99),
            "1 % higher": scaled(bound, 1.01),
            "without kappa": lambda **k: bound(**k) * k["mu"] / k["beta"],
        },
    )
)
