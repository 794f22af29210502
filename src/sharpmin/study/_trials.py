"""The runs of a study: trials of every method on their own seeds, then the chosen settings on other seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._methods import METHODS, methods
from ._run import Cell
from ._settings import setting

TUNING = (1000, 1001)
"""The seeds of the trials; no run of the table has them."""

Rows = Mapping[Cell, Mapping[str, Any]]


def trials(data: str) -> list[Cell]:
    """All trials: every method has the same number.

    Raises:
        ValueError: if there is no such study.
        MissingExtraError: if its data needs a package that is not installed.
    """
    s = setting(data)
    s.load()
    return [
        Cell(data, method, noise, seed, lr, rho)
        for seed in TUNING
        for noise in s.noises
        for method in methods(s)
        for lr, rho in METHODS[method].trials(s)
    ]


def tried(rows: Rows, method: str, noise: float) -> dict[Cell, Mapping[str, Any]]:
    """The trials of a method."""
    return {c: row for c, row in rows.items() if c.seed in TUNING and (c.method, c.noise) == (method, noise)}


def scores(rows: Rows, method: str, noise: float) -> dict[tuple[float, float], float]:
    """Learning rate and radius -> mean accuracy on the validation samples."""
    values: dict[tuple[float, float], list[float]] = {}
    for cell, row in tried(rows, method, noise).items():
        values.setdefault((cell.lr, cell.rho), []).append(row["validation"])
    return {key: sum(each) / len(each) for key, each in values.items()}


def chosen(rows: Rows, method: str, noise: float) -> tuple[float, float]:
    """The learning rate and radius of a `method` with the best score among `rows` at a `noise`; of equals, the smaller rho."""
    found = scores(rows, method, noise)
    return min(found, key=lambda key: (-found[key], key[1], key[0]))


def judged(rows: Rows, data: str, seeds: int) -> list[Cell]:
    """The runs of the table, from the `rows` of all trials of the task `data`.

    One of the `seeds` comes after the other, so that what is finished is whole seeds.
    """
    s = setting(data)
    kinds = [(noise, method, *chosen(rows, method, noise)) for noise in s.noises for method in methods(s)]
    return [Cell(data, method, noise, seed, lr, rho) for seed in range(seeds) for noise, method, lr, rho in kinds]
