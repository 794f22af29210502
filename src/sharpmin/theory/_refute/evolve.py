"""Several searches by the CMA evolution strategy in lockstep: one call evaluates the offspring of all."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sharpmin.core.extras import optional

if TYPE_CHECKING:
    import cma
    import numpy as np
    from numpy.random import Generator

    from .._problems.problem import Array
else:
    np = optional("numpy", extra="lab")
    cma = optional("cma", extra="lab")

OFFSPRING = 24
STRATEGIES = 4
SPREAD = 0.15
"""Standard deviation of the first generation; genes are in [0, 1]."""

WORST = 1e300
"""The objective where the fitness is -inf, since the strategy takes finite numbers only."""


def strategy(mean: Array, rng: Generator) -> Any:
    """A search that starts at `mean`, draws from `rng` only and prints nothing."""
    draw = {"seed": np.nan, "randn": lambda count, genes: rng.standard_normal((count, genes))}
    options = {"popsize": OFFSPRING, "tolx": 1e-5, "verbose": -9, **draw}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Could not import matplotlib")  # by cma's import; it is for its plots
        return cma.CMAEvolutionStrategy(mean, SPREAD, options)


def maximize(fitness: Callable[[Array], Array], genes: int, evaluations: int, rng: Generator) -> tuple[Array, float, int]:
    """The best genes found, their fitness, and the number of evaluations.

    A fifth of the evaluations are uniform; strategies start at the best of these, and restart when they have converged.

    Args:
        fitness: takes genes of shape (n, genes) and gives (n,); -inf is worst, nan counts as such.
        genes: the number of genes.
        evaluations: the budget; the last generation may exceed it.
        rng: the source of all random choices.
    """
    first = max(STRATEGIES, min(evaluations, max(32, evaluations // 5)))
    pool = rng.random((first, genes))
    values = _ranked(fitness(pool))
    order = np.argsort(-values, kind="stable")
    best, top, done, following = pool[order[0]], float(values[order[0]]), first, STRATEGIES
    search = [strategy(pool[k], rng) for k in order[:STRATEGIES]]
    while done < evaluations:
        asked = np.array([one.ask() for one in search])
        found = _ranked(fitness(np.concatenate(asked)))
        done += len(found)
        for k, (offspring, part) in enumerate(zip(asked, np.split(found, len(search)), strict=True)):
            search[k].tell(list(offspring), np.where(part == -np.inf, WORST, -part))
            if part.max() > top:
                best, top = offspring[int(part.argmax())], float(part.max())
            if search[k].stop():
                start = pool[order[following]] if following < len(order) else rng.random(genes)
                search[k], following = strategy(start, rng), following + 1
    return best, top, done


def _ranked(values: Array) -> Array:
    return np.where(np.isnan(values), -np.inf, values)
