"""Not a remedy: a warm start without perturbation. It may change the basin that SAM ends in, but not the traps in it.

**Assumptions.** TRAP(theta) with q = (1 - 2 theta) rho; S >= 1 steps of gradient descent (the keyword `switch`), then SAM with
constant rho; the same lr in (0, 1/beta] throughout.

**Statement.** On f's concave part gradient descent moves away from q by a factor 1 + lr beta a step. So for every S the
start x0 = q - (q - x_S)(1 + lr beta)^(-S) arrives at any x_S in I = [-theta rho, q), and then SAM ends at 0, where

    |f'(x_T)| -> (1 - 2 theta) beta rho.

A start a little lower arrives left of -2 theta rho instead, and ends around the minimum, where SAM without the warm start
would have been trapped.

**Where it is attained.** At its own instance, for every S and every such start.

**For training.** Training without SAM first saves time. It does not remove the floor of T4, which depends on rho at the end.

**Source.** Derived here; matches claim P3 of Si & Yun (NeurIPS 2023, arXiv:2306.09850).
"""

from __future__ import annotations

from collections.abc import Iterator

from sharpmin.core.rho import Tail, positive_integer

from .._problems import problems
from .._simulation.simulate import simulate
from .._statements.assume import step_below
from .._statements.cell import Cell
from .._statements.theorem import Theorem, register, scaled


def bound(*, theta: float, beta: float, rho: float, switch: int = 1, lr: float | None = None) -> float:
    """(1 - 2 theta) beta rho, for every S and lr."""
    positive_integer(switch, "switch", "warm-start")
    if lr is not None:
        step_below("warm-start", lr, 1 / beta, "1/beta", strict=False)
    return (1 - 2 * theta) * beta * rho


def start(theta: float, beta: float, rho: float, switch: int, lr: float, arrival: float) -> float:
    """x0 from which `switch` steps of gradient descent, all but the last on the concave part, lead to `arrival`."""
    q = (1 - 2 * theta) * rho
    return q - (q - arrival) * (1 + lr * beta) ** -switch


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """Warm starts of 1 to 30 steps into I; the other basin; the same start without a warm start."""
    beta, rho, theta = 2.0, 0.5, 0.125
    f = problems()["trap"](theta=theta, beta=beta, rho=rho)
    for lr in (0.05, 0.25, 1 / beta):
        for switch in (1, 5, 30):
            limit = theorem.bound(theta=theta, beta=beta, rho=rho, switch=switch, lr=lr)
            starts = [start(theta, beta, rho, switch, lr, share * rho) for share in (-theta, 0.2, 0.7)]
            run = simulate(f, method="sam", lr=lr, rho=Tail(rho, start=switch), steps=2000, x0=starts, means=False)
            for share, slope in zip((-theta, 0.2, 0.7), abs(f.gradient(run.x_final.values)), strict=True):
                yield Cell(f"{switch} steps of gd, lr {lr:g}, x_S {share:g} rho", float(slope), "==", limit)
    lr, switch = 0.25, 5
    x0 = start(theta, beta, rho, switch, lr, -0.3 * rho)
    limit = theorem.bound(theta=theta, beta=beta, rho=rho, switch=switch, lr=lr)
    cold, warm = (
        simulate(f, method="sam", lr=lr, rho=radius, steps=2000, x0=x0, means=False).x_final.values
        for radius in (rho, Tail(rho, start=switch))
    )
    yield Cell("x_S -0.3 rho, without the warm start", float(abs(f.gradient(cold)[0])), "==", limit)
    yield Cell("x_S -0.3 rho: distance to the minimum at -rho", float(abs(warm[0] + rho)), "<=", lr * beta * rho)


WARM_START = register(
    Theorem(
        id="warm-start",
        title="not a remedy: a warm start changes the basin, not the floor",
        claims=("P3",),
        kind="lower",
        statement=__doc__,
        formula=bound,
        check=check,
        example={"theta": 0.125, "beta": 2.0, "rho": 0.5, "switch": 5},
        golden=(({}, 0.75),),
        attained=True,
        mutants={"1 % lower": scaled(bound, 0.99), "1 % higher": scaled(bound, 1.01)},
    )
)
