"""Quick datasets, their figures, and a verdict for every statement, made once."""

from dataclasses import dataclass

import pytest

from sharpmin.report import datasets, figures
from sharpmin.theory import Verdict, theorems


@dataclass(frozen=True)
class Known:
    """A cell of the settings table, as the report expects it."""

    oracle: str
    setting: str
    radius: str
    ids: tuple = ()
    bound: str = ""
    measured: float | None = None
    ratio: float | None = None
    all_the_way: bool | None = None
    proved: bool = True
    note: str = ""


def verdict(id_, **changes):
    t = theorems().get(id_)
    fields = {
        "id": id_, "claim": list(t.claims) if t else ["P1"], "kind": t.kind if t else "upper",
        "measured": 1.25e-7, "bound": 2.5e-7, "ratio": 0.5, "holds": True, "vacuous": False, "n_cells": 3,
        "standard_error": 0.0, "relation": "<=",
        "instance": "trap, theta 0.1", "title": t.title if t else id_, "seconds": 1.0,
    }  # fmt: skip
    return Verdict(**fields | changes)


@pytest.fixture(scope="session")
def data():
    return datasets.compute(quick=True)


@pytest.fixture(scope="session")
def plates(data):
    return {plate.id: plate for plate in figures.draw(data)}


@pytest.fixture(scope="session")
def verdicts():
    return [verdict(id_) for id_ in theorems()]


@pytest.fixture(scope="session")
def cells():
    return [
        Known("deterministic", "strongly-convex", "constant", ("t1",), "beta^2/T^2", 1.5e-9, 0.5, True),
        Known("deterministic", "strongly-convex", "decaying", measured=0.0, all_the_way=True, proved=False),
        Known("m-sam", "nonconvex", "constant", ("t5", "e5"), "<i>floor</i>", 0.7, 1.0, False),
        Known("m-sam", "nonconvex", "clipped", note="no <b>statement</b> is known"),
    ]
