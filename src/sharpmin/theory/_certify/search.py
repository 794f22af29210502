"""Branch and bound over the gradient norms: the cell with the largest bound is halved until that bound is close to a run."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import count, product
from math import inf, isqrt
from typing import TYPE_CHECKING, Any

from sharpmin.core.extras import optional

from .cells import Cell, at, weights
from .conditions import Conditions, Specification
from .exact import Checker
from .solver import Solver

if TYPE_CHECKING:
    from scipy import optimize
else:
    optimize = optional("scipy.optimize", extra="lab")

Norms = tuple[Fraction, ...]
SLACK = 1e-8
"""Margin, in units of delta, by which the runs to be interpolated satisfy every condition: room for rounding."""

MARGINS = (1e-8, 1e-7, 1e-6, 1e-5, 1e-4)
"""Smallest eigenvalues that a proof is required to have, tried in this order until the proof survives rounding."""

STARTS = {1: 12, 2: 7, 3: 5}
"""Points per gradient norm of the grid on which the search starts, by the number of norms."""


@dataclass(frozen=True)
class Proof:
    """Multipliers in units of 2^-44 that prove f(x_N) - f* <= bound for all norms in the cell."""

    cell: Cell
    bound: Fraction
    corners: tuple[tuple[int, ...], ...] = field(repr=False)
    units: tuple[tuple[int, ...], ...] = field(repr=False)


@dataclass(frozen=True)
class Leaf:
    """A cell of the box of all norms, with a proof for it or for a cell that contains it; None if there is no proof."""

    cell: Cell
    proof: Proof | None

    @property
    def bound(self) -> Fraction | float:
        """The bound of the proof; inf without a proof."""
        return inf if self.proof is None else self.proof.bound


class Search:
    """One branch-and-bound search, in the units of its conditions.

    Attributes:
        low: the largest f(x_N) - f* of a run so far.
        cells: the number of cells solved.
        leaves: cells that cover the box, with their proofs.
    """

    def __init__(self, conditions: Conditions, attain: Callable[[Norms], float], low: float):
        self.conditions, self.attain, self.low = conditions, attain, low
        self.box = norms_box(conditions.setting)
        self.upper, self.checker = Solver(conditions), Checker(conditions)
        self.lower = Solver(self.conditions, slack=SLACK)
        self.cells = 0
        self.leaves: list[Leaf] = []

    def probe(self, norms: Norms) -> float:
        """The worst case at given norms, in floating point."""
        solution = self.lower.solve(at(norms))
        return solution.bound if solution is not None else 0.0

    def climb(self, norms: Norms) -> None:
        """Move to the worst norms nearby, and run the function found there."""
        if norms:
            found = optimize.minimize(
                lambda u: -self.probe(tuple(map(Fraction, u.tolist()))),
                [float(u) for u in norms],
                method="Nelder-Mead",
                bounds=[(float(low), float(high)) for low, high in self.box],
                options={"xatol": 1e-5, "fatol": 1e-7, "maxfev": 120 * len(norms)},
            )
            norms = tuple(map(Fraction, found.x.tolist()))
        self.low = max(self.low, self.attain(norms))

    def prove(self, cell: Cell, parent: Proof | None) -> Leaf:
        """The best proof for a cell: its own, or that of the cell it is a part of."""
        self.cells += 1
        table = weights(cell)
        for margin in MARGINS:
            solution = self.upper.solve(table, self.low, margin * max(1.0, self.low))
            if solution is None:
                continue
            corners, units = self.checker.rounded(solution)
            bound = self.checker.proved(table, corners, units)
            if bound is not None:
                if parent is None or bound < parent.bound:
                    return Leaf(cell, Proof(cell, bound, tuple(map(tuple, corners)), tuple(map(tuple, units))))
                break
        return Leaf(cell, parent)

    def run(self, tolerance: float, seconds: float, cells: int, report: Callable[[int, float, float], Any]) -> None:
        """Search until the gap is at most `tolerance` or a budget is spent."""
        begin, order = time.monotonic(), count()
        self._first()
        root = self.prove(self.box, None)
        heap = [(-root.bound, next(order), root)]
        while True:
            bound = -heap[0][0]
            report(self.cells, self.low, float(bound))
            done = bound <= self.low + tolerance or not self.box
            if done or self.cells + 2 > cells or time.monotonic() - begin > seconds:
                break
            _, _, leaf = heapq.heappop(heap)
            for half in halves(leaf.cell, self.box):
                part = self.prove(half, leaf.proof)
                if part.bound > self.low + tolerance:
                    center = tuple((low + high) / 2 for low, high in half)
                    if self.probe(center) > self.low + tolerance / 10:
                        self.climb(center)
                heapq.heappush(heap, (-part.bound, next(order), part))
        self.leaves = [leaf for _, _, leaf in heap]

    def _first(self) -> None:
        """Climb from the best point of a grid."""
        grid = [
            [low + (high - low) * Fraction(2 * k + 1, 2 * STARTS[len(self.box)]) for k in range(STARTS[len(self.box)])]
            for low, high in self.box
        ]
        self.climb(max(product(*grid), key=self.probe) if grid else ())


def proved(conditions: Conditions, leaves: Sequence[Leaf]) -> Fraction:
    """The bound that these proofs give together, recomputed from their multipliers without a solver.

    Raises:
        ValueError: if a proof does not hold, or the cells do not cover the box.
    """
    checker, bounds = Checker(conditions), []
    for proof in {id(leaf.proof): leaf.proof for leaf in leaves}.values():
        bound = None if proof is None else checker.proved(weights(proof.cell), proof.corners, proof.units)
        if bound is None:
            raise ValueError("certify: the multipliers of one cell prove no bound")
        bounds.append(bound)
    parts = [leaf.cell for leaf in leaves if leaf.proof is not None and _inside(leaf.cell, leaf.proof.cell)]
    box = norms_box(conditions.setting)
    if not _covered(box, parts, box):
        raise ValueError("certify: the cells with a proof do not cover all gradient norms")
    return max(bounds)


def norms_box(s: Specification) -> Cell:
    """A box that contains the norms of every run: u_0^2 <= 2 beta delta, and u_(t+1) <= u_t + beta lr (u_t + beta rho)."""
    ends, high = [], Fraction(isqrt(int(2 * s.beta * s.delta * 4**10)) + 1, 2**10)
    for _ in range(s.norms):
        ends.append((Fraction(0), high))
        high = Fraction(int((high + s.beta * s.lr * (high + s.beta * s.rho)) * 2**10) + 1, 2**10)
    return tuple(ends)


def halves(cell: Cell, box: Cell) -> tuple[Cell, Cell]:
    """The cell cut in two along the norm in which it is widest relative to the box."""
    widths = [(high - low) / (end - begin) for (low, high), (begin, end) in zip(cell, box, strict=True)]
    k = widths.index(max(widths))
    low, high = cell[k]
    middle = (low + high) / 2
    return (*cell[:k], (low, middle), *cell[k + 1 :]), (*cell[:k], (middle, high), *cell[k + 1 :])


def _inside(cell: Cell, other: Cell) -> bool:
    return all(low <= a and b <= high for (a, b), (low, high) in zip(cell, other, strict=True))


def _covered(cell: Cell, parts: list[Cell], box: Cell) -> bool:
    """Whether these cells, all made by `halves`, cover `cell`."""
    if any(_inside(cell, part) for part in parts):
        return True
    within = [part for part in parts if _inside(part, cell)]
    return bool(within) and all(_covered(half, within, box) for half in halves(cell, box))
