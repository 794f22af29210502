"""INTERPOLATION. If all samples share a minimizer, stochastic USAM converges linearly to the optimum despite the noise.

**Assumptions.** f = E l(.; xi) is beta-smooth and PL(mu); every l(.; xi) is beta_c-smooth and minimal at one and the same x*;
y = x + rho g, x+ = x - lr G, g and G the gradients of the same drawn sample at x and at y (m-USAM); r = beta_c rho below
(mu/beta_c)^(1/2); lr > 0 small enough that the factor below is under 1. Samples need not be convex.

**Statement.** E f(x_T) - f* <= [ 1 - 2 mu lr (1 - r (beta_c/mu)^(1/2)) + beta beta_c lr^2 (1 + r)^2 ]^T Delta.

Proof. Let v = grad f(x), u = ||v||, d = f(x) - f*. Each sample is minimal at x*, so E||g||^2 <= 2 beta_c d. Smoothness gives
||G - g|| <= r ||g||, so E <v, G> >= u^2 - r u (2 beta_c d)^(1/2) >= 2 mu d (1 - r (beta_c/mu)^(1/2)), as u^2 >= 2 mu d, and
E||G||^2 <= (1 + r)^2 2 beta_c d. Put both into E f(x+) <= f(x) - lr E <v, G> + (beta lr^2/2) E||G||^2.

The factor is least at lr = mu (1 - r (beta_c/mu)^(1/2))/(beta beta_c (1 + r)^2), which is prescribed.

**Where it is attained.** On one quadratic with kappa = 1, as rho -> 0. For other kappa no instance close to the bound is known.

**For training.** A model that can fit every sample needs no decay of lr or rho under USAM. With normalization the ascent has
length rho however close x is to x*, and at constant lr SAM ends on a cycle (C1).

**Source.** Derived here; matches claim P7 of Si & Yun (NeurIPS 2023, arXiv:2306.09850). A linear rate of stochastic SAM under
overparametrization is claimed by Shin et al. (UAI 2025, arXiv:2311.17539), of which the abstract only was read: their rate and
assumptions may differ.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sharpmin.core.extras import optional
from sharpmin.core.reference import SHIN_2025, SI_YUN_2023

from .._problems import problems
from .._problems.hinge import Hinge, HingeProblem
from .._problems.own import own
from .._problems.problem import Problem
from .._statements.assume import require
from .._statements.cell import Cell
from .._statements.theorem import Theorem, register, scaled, without

if TYPE_CHECKING:
    import numpy as np
    from numpy.random import Generator

    from .._problems.problem import Array
else:
    np = optional("numpy", extra="lab")


def margin(*, mu: float, rho: float, beta_component: float) -> float:
    """1 - r (beta_c/mu)^(1/2), where it is positive."""
    left = 1 - beta_component * rho * math.sqrt(beta_component / mu)
    most = math.sqrt(mu / beta_component) / beta_component
    require(left > 0, "interpolation", f"rho={rho:g} must be below (mu/beta_component)^(1/2)/beta_component={most:g}")
    return left


def step_size(*, beta: float, mu: float, rho: float, beta_component: float | None = None) -> float:
    """mu (1 - r (beta_c/mu)^(1/2))/(beta beta_c (1 + r)^2)."""
    c = _component(beta, beta_component)
    return mu * margin(mu=mu, rho=rho, beta_component=c) / (beta * c * (1 + c * rho) ** 2)


def bound(
    *,
    beta: float,
    mu: float,
    rho: float,
    steps: int,
    delta: float,
    lr: float | None = None,
    beta_component: float | None = None,
) -> float:
    """[1 - 2 mu lr (1 - r (beta_c/mu)^(1/2)) + beta beta_c lr^2 (1 + r)^2]^T Delta."""
    c = _component(beta, beta_component)
    best = step_size(beta=beta, mu=mu, rho=rho, beta_component=c)
    lr = best if lr is None else lr
    require(lr < 2 * best, "interpolation", f"lr={lr:g} must be below {2 * best:g}, twice the prescribed one")
    factor = 1 - 2 * mu * lr * margin(mu=mu, rho=rho, beta_component=c) + beta * c * lr**2 * (1 + c * rho) ** 2
    return factor**steps * delta


def _component(beta: float, beta_component: float | None) -> float:
    """The smoothness of the samples; that of f by default."""
    if beta_component is None:
        return beta
    require(
        beta_component >= beta, "interpolation", f"beta_component={beta_component:g} is below beta={beta:g}, which it bounds"
    )
    return beta_component


def shared(rng: Generator) -> HingeProblem:
    """Two samples, each minimal at 0 and nowhere else, the first perhaps not convex."""
    samples = []
    for bend in (rng.uniform(-0.3, 0.0), rng.uniform(0.1, 1.0)):
        slopes = rng.uniform(0.3, 1.5, 2)
        knots = [(-2.0, -2.0 * slopes[0]), (0.0, 0.0), (1.0, slopes[1]), (2.0, slopes[1] + bend)]
        samples.append(Hinge.through([(float(t), float(v)) for t, v in knots], left=1.0, right=float(rng.uniform(0.5, 1.5))))
    return HingeProblem("samples that share a minimizer", tuple(samples), (0.5, 0.5))


def least_squares() -> Problem:
    """l_i = (a_i . x)^2/2 with two directions in the plane: neither sample is PL around x*, f is."""
    rows = np.array([[1.0, 0.2], [0.1, 0.8]])
    curvatures = np.linalg.eigvalsh(rows.T @ rows / 2)
    return own(
        value=lambda x, i: float(rows[i] @ x) ** 2 / 2,
        gradient=lambda x, i: rows[i] * (rows[i] @ x),
        dim=2, samples=2, name="least squares", beta=float(curvatures[-1]), mu=float(curvatures[0]), sigma=1.0, f_star=0.0,
        beta_component=float((rows**2).sum(axis=1).max()),
    )  # fmt: skip


def expected_gap(f: Problem, x0: Array, lr: float, rho: float, steps: int) -> float:
    """E f(x_T) - f* exactly: both samples at every step, so 2^T paths."""
    x = x0
    for _ in range(steps):
        ends = []
        for i in (0, 1):
            draw = np.full((len(x), 1), i)
            y = x + rho * f.sample_gradient(x, draw)
            ends.append(x - lr * f.sample_gradient(y, draw))
        x = np.concatenate(ends)
    return float(f.gap(x).mean())


def check(theorem: Theorem, quick: bool) -> Iterator[Cell]:
    """Random pairs of samples and least squares, over all sample paths; quadratics."""
    rng = np.random.default_rng(0)
    for f in [*(shared(rng) for _ in range(10 if quick else 40)), least_squares()]:
        c, one = f.beta_component, f.dim == 1
        for part, share, steps in ((0.0, 1.0, 4), (0.3, 1.0, 8), (0.6, 1.9, 4), (0.9, 0.5, 1)):
            rho = part * math.sqrt(f.pl / c) / c
            k = {"beta": f.beta, "mu": f.pl, "rho": rho, "beta_component": c}
            lr = share * step_size(**k)
            x0 = np.array([rng.normal(0.0, 2.0)]) if one else rng.normal(0.0, 2.0, (1, 2))
            delta = float(f.gap(x0)[0])
            limit = theorem.bound(**k, steps=steps, delta=delta, lr=lr)
            where = f"{f.name}, r {c * rho:.2g}, lr {share:g} of the prescribed, T {steps}"
            yield Cell(where, expected_gap(f, x0, lr, rho, steps), "<=", limit, trivial=delta)
    quadratic = problems()["quadratic"](curvatures=[2.0])
    for r, s in ((0.0, 0.9), (0.1, 1.2), (1e-6, 0.7)):
        k = {"beta": 2.0, "mu": 2.0, "rho": r / 2.0, "steps": 2, "delta": 1.0, "lr": s / 2.0}
        gap = expected_gap(quadratic, np.array([1.0]), s / 2.0, r / 2.0, 2)
        yield Cell(f"quadratic, kappa 1, r {r:g}, lr {s:g}/beta, T 2", gap, "<=", theorem.bound(**k), trivial=1.0)


def first_order(*, lr: float | None = None, **k: Any) -> float:
    """A mutant: the factor without its term in lr^2."""
    c = k.get("beta_component") or k["beta"]
    lr = step_size(beta=k["beta"], mu=k["mu"], rho=k["rho"], beta_component=c) if lr is None else lr
    factor = 1 - 2 * k["mu"] * lr * margin(mu=k["mu"], rho=k["rho"], beta_component=c)
    return float(max(factor, 0.0) ** k["steps"] * k["delta"])


INTERPOLATION = register(
    Theorem(
        id="interpolation",
        title="m-USAM, PL, samples that share a minimizer: linear convergence",
        claims=("P7",),
        kind="upper",
        statement=__doc__,
        formula=bound,
        prescribed=step_size,
        check=check,
        example={"beta": 1.0, "mu": 0.25, "rho": 0.1, "steps": 3, "delta": 1.0},
        golden=(
            ({}, (1 - (0.25 * 0.8 / 1.1) ** 2) ** 3),
            ({"beta_component": 2.0, "lr": 0.01}, (1 - 0.005 * (1 - 0.2 * 8**0.5) + 2e-4 * 1.44) ** 3),
        ),
        attained=True,
        mutants={
            "1 % lower": scaled(bound, 0.99),
            "no rho term": without(bound, rho=0.0),
            "no noise of the step": first_order,
        },
        references=(SI_YUN_2023, SHIN_2025),
    )
)
