"""What a cell and a verdict mean."""

import json
from dataclasses import replace

import pytest

from sharpmin.theory import Cell, Theorem, theorems, verify
from sharpmin.theory._statements.verify import find, judge

NAN, INF = float("nan"), float("inf")
CELLS = [
    (Cell("a", 1.0, "<=", 1.0), True),
    (Cell("a", 1.0 + 1e-8, "<=", 1.0), False),
    (Cell("a", 1.04, "<=", 1.0, error=0.01), True),
    (Cell("a", 1.041, "<=", 1.0, error=0.01), False),
    (Cell("a", 1.0, ">=", 1.0), True),
    (Cell("a", 1.0 - 1e-8, ">=", 1.0), False),
    (Cell("a", 0.96, ">=", 1.0, error=0.01), True),
    (Cell("a", 0.959, ">=", 1.0, error=0.01), False),
    (Cell("a", 1.0 + 5e-10, "==", 1.0), True),
    (Cell("a", 1.0 + 2e-9, "==", 1.0), False),
    (Cell("a", 1.0 - 2e-9, "==", 1.0), False),
    (Cell("a", 0.9, "<", 1.0, error=0.02), True),
    (Cell("a", 0.95, "<", 1.0, error=0.02), False),
    (Cell("a", 1.0, "<", 1.0), False),
    (Cell("a", 1e-15, "<=", 0.0), False),
    (Cell("a", 1e-15, "<=", 0.0, resolution=1e-14), True),
    (Cell("a", NAN, "<=", 1.0), False),
    (Cell("a", NAN, ">=", 1.0), False),
    (Cell("a", NAN, "==", 1.0), False),
    (Cell("a", 1.0, "<=", NAN), False),
    (Cell("a", INF, "<=", 1.0), False),
    (Cell("a", 0.0, "<=", 0.0), True),
]


@pytest.mark.parametrize(("cell", "holds"), CELLS)
def test_a_cell_holds(cell, holds):
    assert cell.holds is holds


def test_vacuous_is_no_better_than_the_start():
    assert Cell("a", 0.1, "<=", 2.0, trivial=2.0).vacuous
    assert not Cell("a", 0.1, "<=", 1.9, trivial=2.0).vacuous
    assert not Cell("a", 0.1, "<=", 2.0).vacuous


def a_theorem(cells):
    return replace(theorems()["c1"], id="x", check=lambda theorem, quick: cells)


def test_one_failure_is_the_verdict():
    verdict = verify(a_theorem([Cell("good", 0.999, "<=", 1.0), Cell("bad", 7.0, "<=", 1.0)]))
    assert (verdict.holds, verdict.instance, verdict.ratio, verdict.n_cells) == (False, "bad", 7.0, 2)


def test_the_closest_call_that_says_something_is_shown():
    cells = [Cell("far", 0.1, "<=", 1.0), Cell("close", 0.9, "<=", 1.0), Cell("vacuous", 1.0, "<=", 1.0, trivial=0.5)]
    verdict = verify(a_theorem(cells))
    assert (verdict.instance, verdict.vacuous, verdict.holds) == ("close", False, True)


def test_a_verdict_is_vacuous_if_every_cell_is():
    assert verify(a_theorem([Cell("a", 1.0, "<=", 2.0, trivial=1.0)])).vacuous


def test_a_check_without_cells_proves_nothing():
    with pytest.raises(RuntimeError, match="no Cell"):
        judge(a_theorem([]), [])


def test_a_record_is_json():
    record = verify(a_theorem([Cell("a", NAN, "<=", 0.0)])).record()
    back = json.loads(json.dumps(record, allow_nan=False))
    assert (back["measured"], back["holds"], back["claim"]) == (None, False, ["P1"])
    assert {"id", "claim", "kind", "measured", "bound", "ratio", "holds", "vacuous", "n_cells"} <= back.keys()


@pytest.mark.parametrize(("typed", "nearest"), [("T1D", "t1d"), ("trapp", "trap"), ("digit-t1", "digits-t1"), ("zzz", "t1")])
def test_an_unknown_id_names_the_nearest(typed, nearest):
    with pytest.raises(ValueError, match=nearest):
        find(typed)


@pytest.mark.parametrize(("field", "value"), [("kind", "sharp"), ("claims", ("P8",)), ("claims", ())])
def test_a_theorem_is_checked_when_it_is_made(field, value):
    with pytest.raises(ValueError, match=f"x: {field}"):
        replace(theorems()["c1"], id="x", **{field: value})


def test_a_second_theorem_of_the_same_id_is_refused():
    from sharpmin.theory._statements.theorem import register

    with pytest.raises(ValueError, match="exists already"):
        register(theorems()["c1"])


def test_repr_names_it():
    assert repr(theorems()["c1"]) == "<Theorem c1: SAM on a quadratic: the two-cycle and its gap (tight; P1)>"
    assert isinstance(theorems()["c1"], Theorem)
