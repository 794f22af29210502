"""Simulations for the cells of `settings` that no statement decides; fixed seeds, a few seconds in all.

The instances are strongly convex, so they belong to every setting; a trap serves the deterministic nonconvex cells. Stochastic
runs are stationary means of ||grad f||^2 at lr, lr/2 and lr/4, extrapolated to lr = 0 by Richardson's rule: noise that
vanishes with the step size drops out, and the rest is due to rho.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from sharpmin.core.extras import optional
from sharpmin.core.rho import Capped, InverseSqrt

from .._problems import problems
from .._problems.hinge import Hinge, HingeProblem
from .._problems.problem import Problem
from .._simulation.simulate import simulate
from .atlas import atlas, decided

if TYPE_CHECKING:
    import numpy as np
else:
    np = optional("numpy", extra="lab")


@dataclass(frozen=True)
class Measured:
    """E ||grad f||^2 as lr -> 0, from a simulation.

    Attributes:
        value: the extrapolated mean.
        error: its standard error; 0 for a deterministic method.
        instance: the function and the numbers, in words.
    """

    value: float
    error: float
    instance: str

    @property
    def stays(self) -> bool:
        """Whether it differs from 0, by four standard errors."""
        return self.value > 4 * self.error + 1e-6


def measure_settings(*, quick: bool = False) -> dict[tuple[str, str, str], Measured]:
    """Simulate every cell that no registered statement decides.

    Args:
        quick: fewer lanes.

    >>> cells = measure_settings(quick=True)
    >>> cells["n-sam", "convex", "capped"].stays
    True
    """
    return dict(_cells(1000 if quick else 4000))


def _cells(lanes: int) -> Iterator[tuple[tuple[str, str, str], Measured]]:
    stochastic = cache(_stochastic)
    for key, case in atlas().items():
        oracle, setting, radius = key
        if decided(case) or (case.all_the_way is False and case.evidence) or (oracle, radius) == ("exact", "constant"):
            continue
        yield key, _exact(setting, radius) if oracle == "exact" else stochastic(oracle, radius, lanes)


def kinked() -> HingeProblem:
    """f' = x left of 0 and x/5 right of it, l' = f' +- 1: noisy ascent steps leave the minimum to both sides equally often."""
    f, noise = Hinge(0.0, 1.0, ((0.0, -0.8),)), Hinge(1.0)
    return HingeProblem("kinked", (f + noise, f - noise), (0.5, 0.5))


def _stochastic(oracle: str, radius: str, lanes: int) -> Measured:
    """E3 with p = 1/4; for the unnormalized radius a kinked parabola, since with equal curvatures there is no effect."""
    raw = radius == "unnormalized"
    rho, cap, clip = (0.5 if raw else 1.0), 0.5, 0.5
    f = kinked() if raw else problems()["e3"](p=0.25, rho=rho)
    method = oracle.replace("sam", "usam") if raw else oracle
    top = 0.02
    lr = np.repeat([top, top / 2, top / 4], lanes // 8)
    radii: Any = {"capped": Capped(rho, cap), "decaying": rho * np.sqrt(f.beta * lr)}.get(radius, rho)
    options: dict[str, Any] = {"method": method, "lr": lr, "rho": radii, "clip": clip if radius == "clipped" else None}
    seeds = np.arange(len(lr))
    warm = simulate(f, **options, steps=1000, x0=0.0, seeds=seeds, means=False).x_final.values
    table = simulate(f, **options, steps=1500, x0=warm, seeds=seeds + 10**6).mean_square_gradient.values.reshape(3, -1)
    weights = np.array([1.0, -6.0, 8.0]) / 3.0
    error = math.sqrt(float((weights**2 * table.var(axis=1, ddof=1)).sum()) / table.shape[1])
    extra = {"capped": f", cap {cap} ||g||", "clipped": f", clipped at {clip} ||g||", "decaying": ", rho^2 ~ lr"}
    where = f"{f.name}, {method}, rho {rho:g}{extra.get(radius, '')}, lr {top:g} to {top / 4:g}"
    return Measured(float(weights @ table.mean(axis=1)), error, where)


def _exact(setting: str, radius: str) -> Measured:
    """The squared gradient after 20 000 steps: TRAP for nonconvex functions, a quadratic for the others."""
    beta, rho, lr = 2.0, 0.5, 0.25
    trapped = setting == "nonconvex"
    f: Problem = problems()["trap"](theta=0.125, beta=beta, rho=rho) if trapped else problems()["quadratic"](curvatures=[beta])
    half = 1 / (2 * beta)
    radii = {"capped": Capped(rho, half), "unnormalized": half, "decaying": InverseSqrt(rho)}
    method, clip = ("usam" if radius == "unnormalized" else "sam"), (0.5 if radius == "clipped" else None)
    run = simulate(f, method=method, lr=lr, rho=radii.get(radius, rho), clip=clip, steps=20_000, x0=0.2, means=False)
    return Measured(float(f.gradient(run.x_final.values)[0] ** 2), 0.0, f"{f.name}, {method}, {radius}, lr {lr}, T 20000")
