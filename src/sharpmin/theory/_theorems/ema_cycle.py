"""EMA-CYCLE. SAM with momentum on a quadratic: a two-cycle, lower than that of C1, which attracts nearby starts only.

**Assumptions.** f(x) = lam x^2/2, constant rho; v+ = b v + w grad f(y), x+ = x - lr v+, with y = x + rho sign(x) as in SAM.
The weight w is 1 for the heavy ball, which is torch's SGD with momentum b, and 1 - b for an exponential average of the
gradients. b in [0, 1), s = w lr lam in (0, 2 (1 + b)).

**Statement.** There is the two-cycle x = +-c, c = s rho/(2 (1 + b) - s), on which v = +-2 c/lr, at the gap

    f(x_t) - f* = lam c^2/2.

On it v alternates, so (1 + b) |v| = w |grad f(y)|, and 2 c = lr |v|. While x changes its sign at every step, a deviation
follows the heavy ball on the quadratic, whose multipliers, the roots of z^2 - (1 + b - s) z + b, are inside the unit circle
exactly for these s. So the cycle attracts every start close enough to it. For b = 0 it is C1, which attracts almost every
start.

**Where it is attained.** Everywhere: the statement is an equality, and a local one. Other attractors exist: with the heavy ball
at lam = rho = 1, lr = 0.1, b = 0.9, from v = 0, x0 = 1 ends on a cycle that reaches 16.8 c, and x0 = 3 on one that reaches
9.9 c. At b = 0.5 there is one that reaches 2.5 c.

**For training.** With momentum SAM can also stall on other cycles than exactly alternating gradients, and higher ones.

**Source.** Derived here; extends C1, claim P1 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

from sharpmin.core.rho import finite

from .._statements.assume import require
from .._statements.cell import Cell
from .._statements.theorem import Theorem, register, scaled

AVERAGES = ("heavy-ball", "exponential")


def height(*, curvature: float, rho: float, lr: float, momentum: float, average: str = "heavy-ball") -> float:
    """c = s rho/(2 (1 + b) - s)."""
    b = finite(momentum, "momentum", "ema-cycle", low=0)
    require(b < 1, "ema-cycle", f"momentum={b:g} must be below 1")
    require(average in AVERAGES, "ema-cycle", f"average={average!r} must be one of {', '.join(AVERAGES)}")
    s = curvature * lr * weight(b, average)
    require(s < 2 * (1 + b), "ema-cycle", f"lr={lr:g} must be below {2 * (1 + b) * lr / s:g}; beyond, the cycle is unstable")
    return s * rho / (2 * (1 + b) - s)


def of_share(*, curvature: float, rho: float, lr: float, momentum: float, average: str = "heavy-ball", power: int = 1) -> float:
    """A mutant for power 0 or 2: lam c^2/2 with (1 + b)^power."""
    s = curvature * lr * weight(momentum, average)
    return curvature * (s * rho / (2 * (1 + momentum) ** power - s)) ** 2 / 2


def weight(momentum: float, average: str) -> float:
    """The weight w of a gradient in v."""
    return 1 - momentum if average == "exponential" else 1.0


def bound(*, curvature: float, rho: float, lr: float, momentum: float, average: str = "heavy-ball") -> float:
    """lam c^2/2."""
    return curvature * height(curvature=curvature, rho=rho, lr=lr, momentum=momentum, average=average) ** 2 / 2


def largest(*, curvature: float, rho: float, lr: float, momentum: float, average: str, x: float, v: float, steps: int) -> float:
    """The largest |x| over the last hundred steps of SAM with momentum."""
    most, w = 0.0, weight(momentum, average)
    for t in range(steps):
        y = x + math.copysign(rho, x) if x else x
        v = momentum * v + w * curvature * y
        x -= lr * v
        most = max(most, abs(x)) if t >= steps - 100 else 0.0
    return most


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """Both weights w, over b and s, from starts 1 % off the cycle; and b = 0, where C1 attracts other starts, too."""
    lam, rho = 2.0, 0.7
    for average in AVERAGES:
        for b in (0.0, 0.5, 0.9):
            for share in (0.02, 0.3, 0.9):
                lr = share * 2 * (1 + b) / (lam * weight(b, average))
                k = {"curvature": lam, "rho": rho, "lr": lr, "momentum": b, "average": average}
                c = height(curvature=lam, rho=rho, lr=lr, momentum=b, average=average)
                most = largest(
                    curvature=lam, rho=rho, lr=lr, momentum=b, average=average, x=1.01 * c, v=-2 * c / lr, steps=2000
                )
                where = f"{average}, b {b:g}, s {share:g} of its limit, from beside the cycle"
                yield Cell(where, lam * most**2 / 2, "==", theorem.bound(**k))
    for lr in (0.05, 0.4):
        k = {"curvature": lam, "rho": rho, "lr": lr, "momentum": 0.0, "average": "heavy-ball"}
        most = largest(curvature=lam, rho=rho, lr=lr, momentum=0.0, average="heavy-ball", x=0.7313, v=0.0, steps=2000)
        yield Cell(f"b 0, lr {lr:g}, x0 0.7313", lam * most**2 / 2, "==", theorem.bound(**k))


EMA_CYCLE = register(
    Theorem(
        id="ema-cycle",
        title="SAM with momentum on a quadratic: a locally attracting two-cycle",
        claims=("P1",),
        kind="tight",
        statement=__doc__,
        formula=bound,
        check=check,
        example={"curvature": 2.0, "rho": 0.7, "lr": 0.15, "momentum": 0.5},
        golden=(
            ({}, (0.21 / 2.7) ** 2),
            ({"average": "exponential"}, (0.105 / 2.85) ** 2),
            ({"momentum": 0.0}, (0.21 / 1.7) ** 2),
        ),
        attained=True,
        mutants={
            "1 % lower": scaled(bound, 0.99),
            "1 % higher": scaled(bound, 1.01),
            "no momentum in the denominator": partial(of_share, power=0),
            "(1 + b)^2": partial(of_share, power=2),
            "always the heavy ball": lambda **k: of_share(**{**k, "average": "heavy-ball"}),
        },
    )
)
