"""Simulate one setting, measure the quantity that a statement bounds, and return the `Cell` that compares the two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sharpmin.core.extras import optional

from .._problems.problem import Problem
from .._simulation.simulate import simulate
from .cell import Cell, Relation
from .situation import Quantity
from .statistic import kept, standard_error, statistic
from .theorem import Theorem

if TYPE_CHECKING:
    import numpy as np

    from .._problems.problem import Array
else:
    np = optional("numpy", extra="lab")


def confront(
    theorem: Theorem,
    where: str,
    problem: Problem,
    constants: Mapping[str, Any],
    *,
    x0: Any,
    method: str = "sam",
    steps: int | None = None,
    lr: Any = None,
    rho: Any = None,
    clip: float | None = None,
    seeds: int | None = None,
    worst: bool = False,
    quantity: Quantity | None = None,
    relation: Relation = "<=",
    trivial: float | None = None,
) -> Cell:
    """One cell: the quantity measured in a run, compared with `theorem.bound(**constants)`.

    Args:
        theorem: the statement, or a mutant of it.
        where: the instance in words.
        problem: the function that is minimized.
        constants: the keywords of the bound. `steps`, `lr`, `rho` and `clip` of the run are taken from them unless given.
        x0, method, steps, lr, rho, clip: see `simulate`.
        seeds: the number of lanes for a random method, from seed 0 on; the cell has their mean and its standard error.
        worst: take the lane that is closest to refuting the statement, without an error: for bounds that hold on every path.
        quantity: the quantity measured; by default that of the theorem's rule, or "gap" if it has none.
        relation, trivial: see `Cell`.

    Raises:
        TypeError: if `steps` or `lr` is neither given nor among the constants.
    """
    asked = {"steps": steps, "lr": lr, "rho": rho, "clip": clip}
    told: dict[str, Any] = {name: constants.get(name) if value is None else value for name, value in asked.items()}
    missing = [name for name in ("steps", "lr") if told[name] is None]
    if missing:
        raise TypeError(f"{theorem.id}: confront({where!r}) needs {' and '.join(missing)}, as keyword or among the constants")
    rule = theorem.rule
    bounded = quantity or (rule.quantity if rule else "gap")
    asks = kept(bounded, told["steps"])
    run = simulate(problem, method=method, x0=x0, seeds=range(seeds) if seeds else 0, **asks, **told)
    values = statistic(problem, run, bounded)
    value, error = (_extreme(values, relation), 0.0) if worst else (float(values.mean()), standard_error(values))
    scale = told["steps"] if rule and rule.per_step else 1
    rounding = problem.resolution if bounded in ("gap", "perturbed-gap") else 0.0
    limit = theorem.bound(**constants)
    return Cell(where, scale * value, relation, limit, scale * error, trivial, resolution=scale * rounding)


def _extreme(values: Array, relation: Relation) -> float:
    return float(values.min() if relation == ">=" else values.max())
