"""Simulate one setting, take what a statement bounds, and make the cell."""

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
    """One cell: what a run gave against `theorem.bound(**constants)`.

    Args:
        theorem: perhaps a mutant.
        where: the instance in words.
        problem: what is minimised.
        constants: the keywords of the bound. `steps`, `lr`, `rho` and `clip` of the run are taken from them unless given.
        x0, method, steps, lr, rho, clip: see `simulate`.
        seeds: how many lanes a random method gets, from seed 0 on; the cell has their mean and its standard error.
        worst: take the lane that comes closest to refuting the statement, without an error: for what holds on every path.
        quantity: what is measured; that of the theorem's rule, or "gap" where it has none.
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
