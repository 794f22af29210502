"""Runs that attain the worst case: functions built from a Gram matrix for `simulate` to run, and quadratics."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from sharpmin.core.extras import optional

from .._problems.dense import DiagonalQuadratic
from .._simulation.simulate import simulate
from .cells import at
from .conditions import Conditions, Specification, Vector
from .interpolant import Interpolant
from .search import SLACK, Norms
from .solver import Solution, Solver

if TYPE_CHECKING:
    import numpy as np

    from .._problems.problem import Problem
    from .solver import Array
else:
    np = optional("numpy", extra="lab")

SHARES = (1e-9, 1e-6, 1e-3, 0.01, 0.1, 0.3, 1.0)
"""Starts on a quadratic, as shares of the farthest one: normalized SAM can end as far away from a start near 0 as from any."""


class Attained:
    """The worst run found so far, in the user's units; `conditions` and norms are in units of `length` and `height`.

    Attributes:
        problem: the function that the run minimizes.
        x0: the start, with f(x0) - f* <= delta.
        gap: f(x_N) - f*, as `simulate` returns it.
    """

    def __init__(self, method: str, setting: Specification, conditions: Conditions, length: Fraction):
        self.method, self.setting, self.conditions = method, setting, conditions
        self.length, self.height = float(length), float(setting.delta)
        self.solvers = [Solver(conditions, slack=slack) for slack in (SLACK, 10 * SLACK, 100 * SLACK)]
        self.gap = -1.0
        for curvature in (float(setting.mu), float(setting.beta)):
            highest = (1 - 1e-15) * (2 * self.height / curvature) ** 0.5
            for share in SHARES if method == "sam" else (1.0,):
                self._run(DiagonalQuadratic((curvature, curvature)), np.array([share * highest, 0.0]))

    def __call__(self, norms: Norms) -> float:
        """Run the worst function of the class with these gradient norms; the largest gap so far, in units of delta."""
        for solver in self.solvers:
            solution = solver.solve(at(norms))
            if solution is not None and solution.bound > 0:
                f = self._function(solution, norms)
                if f.violation(self.setting.mu, self.setting.beta) <= 0 and Fraction(float(f.values[1])) <= self.setting.delta:
                    self._run(f, f.points[1])
                    break
        return self.gap / self.height

    def _run(self, f: Problem, x0: Array) -> None:
        s = self.setting
        rho = None if self.method == "gd" else float(s.rho)
        run = simulate(f, method=self.method, lr=float(s.lr), rho=rho, steps=s.steps, x0=x0, means=False)
        gap = float(f.gap(run.x_final.values)[0])
        if gap > self.gap:
            self.problem, self.x0, self.gap = f, x0, gap

    def _function(self, solution: Solution, norms: Norms) -> Interpolant:
        """The Gram matrix factored into vectors of its numerical rank; the unit vectors are then rescaled to length 1."""
        eigenvalues, eigenvectors = np.linalg.eigh(solution.gram)
        rank = max(2, int((eigenvalues > 1e-9 * eigenvalues[-1]).sum()))
        basis = eigenvectors[:, -rank:] * np.sqrt(np.maximum(eigenvalues[-rank:], 0))
        for unit in self.conditions.units:
            basis[unit] /= np.linalg.norm(basis[unit])

        def vector(combination: Vector) -> Array:
            total = np.zeros(rank)
            for (index, powers), factor in combination.items():
                scale = float(factor)
                for u, power in zip(norms, powers, strict=True):
                    scale *= float(u) ** power
                total += scale * basis[index]
            return total

        points = self.length * np.stack([vector(p) for p in self.conditions.points])
        gradients = self.height / self.length * np.stack([vector(g) for g in self.conditions.gradients])
        values = self.height * np.concatenate([[0.0], solution.values])
        return Interpolant(points, gradients, values, float(self.setting.mu), float(self.setting.beta), name="worst case")
