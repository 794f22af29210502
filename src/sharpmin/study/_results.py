"""The runs of a study, in the order in which they are made."""

from __future__ import annotations

from ._data import CLEAN, NOISY, setting
from ._methods import METHODS
from ._run import Cell


def cells(data: str, seeds: int, *, evaluations: int = 0) -> list[Cell]:
    """All runs of a study, one seed after the other, so that an interrupted one has whole seeds.

    Raises:
        ValueError: if there is no such study.
        MissingExtraError: if its data needs a package that is not installed.
    """
    setting(data).split()
    kinds = [(noise, method) for noise in (CLEAN, NOISY) for method in METHODS]
    return [Cell(data, method, noise, seed, evaluations) for seed in range(seeds) for noise, method in kinds]
