"""Evolution strategies with covariance adaptation, several in lockstep: one call evaluates all their offspring.

Written after the equations of Hansen, The CMA Evolution Strategy: A Tutorial (2016, arXiv:1604.00772), for maximizing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from sharpmin.core.extras import optional

if TYPE_CHECKING:
    import numpy as np
    from numpy.random import Generator

    from .._problems.problem import Array
else:
    np = optional("numpy", extra="lab")

OFFSPRING = 24
STRATEGIES = 4
SPREAD = 0.15
"""Of the first generation; genes are in [0, 1]."""


class Strategy:
    """One search: a mean, a step size, a covariance and two paths."""

    def __init__(self, mean: Array, rng: Generator):
        n, parents = len(mean), OFFSPRING // 2
        raw = math.log(parents + 0.5) - np.log(np.arange(1, parents + 1))
        self.weights = raw / raw.sum()
        effective = 1 / float((self.weights**2).sum())
        self.c_path = (4 + effective / n) / (n + 4 + 2 * effective / n)
        self.c_size = (effective + 2) / (n + effective + 5)
        self.c_one = 2 / ((n + 1.3) ** 2 + effective)
        self.c_rank = min(1 - self.c_one, 2 * (effective - 2 + 1 / effective) / ((n + 2) ** 2 + effective))
        self.damping = 1 + 2 * max(0.0, math.sqrt((effective - 1) / (n + 1)) - 1) + self.c_size
        self.usual = math.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n * n))
        self.effective, self.rng = effective, rng
        self.mean, self.size, self.covariance = mean, SPREAD, np.eye(n)
        self.path, self.size_path, self.generation = np.zeros(n), np.zeros(n), 0
        self._decompose()

    def _decompose(self) -> None:
        values, self.basis = np.linalg.eigh(self.covariance)
        self.scales = np.sqrt(np.maximum(values, 1e-20))

    def ask(self) -> Array:
        """Offspring, shape (OFFSPRING, genes)."""
        z = self.rng.standard_normal((OFFSPRING, len(self.mean)))
        return np.asarray(self.mean + self.size * (z * self.scales) @ self.basis.T)

    def tell(self, offspring: Array, fitness: Array) -> None:
        """Go on from the better half; ties keep their order."""
        n, order = len(self.mean), np.argsort(-fitness, kind="stable")
        best = (offspring[order[: len(self.weights)]] - self.mean) / self.size
        move = self.weights @ best
        self.mean = self.mean + self.size * move
        self.generation += 1
        whitened = self.basis @ ((self.basis.T @ move) / self.scales)
        keep = 1 - self.c_size
        self.size_path = keep * self.size_path + math.sqrt(self.c_size * (2 - self.c_size) * self.effective) * whitened
        length = float(np.linalg.norm(self.size_path))
        slow = length / math.sqrt(1 - keep ** (2 * self.generation)) < (1.4 + 2 / (n + 1)) * self.usual
        push = math.sqrt(self.c_path * (2 - self.c_path) * self.effective) if slow else 0.0
        self.path = (1 - self.c_path) * self.path + push * move
        left = 0.0 if slow else self.c_one * self.c_path * (2 - self.c_path)
        self.covariance = (1 - self.c_one - self.c_rank + left) * self.covariance
        self.covariance += self.c_one * np.outer(self.path, self.path) + self.c_rank * (best.T * self.weights) @ best
        self.size = min(1.0, self.size * math.exp(self.c_size / self.damping * (length / self.usual - 1)))
        self._decompose()


def maximize(fitness: Callable[[Array], Array], genes: int, evaluations: int, rng: Generator) -> tuple[Array, float, int]:
    """The best genes found, their fitness, and how many were evaluated.

    A fifth of the evaluations are uniform; strategies start at the best of these, and again when they have come to rest.

    Args:
        fitness: takes genes of shape (n, genes) and gives (n,); -inf is worst, nan counts as such.
        genes: how many there are.
        evaluations: at most, but for the last generation.
        rng: of all choices.
    """
    first = max(STRATEGIES, min(evaluations, max(32, evaluations // 5)))
    pool = rng.random((first, genes))
    values = _ranked(fitness(pool))
    order = np.argsort(-values, kind="stable")
    best, top, done, following = pool[order[0]], float(values[order[0]]), first, STRATEGIES
    search = [Strategy(pool[k], rng) for k in order[:STRATEGIES]]
    while done < evaluations:
        asked = [strategy.ask() for strategy in search]
        found = _ranked(fitness(np.concatenate(asked)))
        done += len(found)
        for k, (offspring, part) in enumerate(zip(asked, np.split(found, len(search)), strict=True)):
            search[k].tell(offspring, part)
            if part.max() > top:
                best, top = offspring[int(part.argmax())], float(part.max())
            if search[k].size * search[k].scales.max() < 1e-5:
                start = pool[order[following]] if following < len(order) else rng.random(genes)
                search[k], following = Strategy(start, rng), following + 1
    return best, top, done


def _ranked(values: Array) -> Array:
    return np.where(np.isnan(values), -np.inf, values)
