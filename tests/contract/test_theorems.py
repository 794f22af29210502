"""What every statement owes: it holds, its mutants are refuted, it is documented and listed."""

import importlib
import re
from dataclasses import replace
from pathlib import Path

import pytest

import sharpmin.theory._theorems as folder
from sharpmin.theory import CLAIMS, theorems, verify

T = theorems()
SECTIONS = ("**Assumptions.**", "**Statement.**", "**Where it is", "**For training.**", "**Source.**")
MUTANTS = [(name, mutant) for name, theorem in T.items() for mutant in theorem.mutants]


@pytest.mark.parametrize("name", T)
def test_it_holds(name):
    verdict = verify(name, quick=True)
    assert verdict.holds, verdict
    assert verdict.n_cells >= 1


@pytest.mark.parametrize(("name", "mutant"), MUTANTS)
def test_a_wrong_bound_is_refuted(name, mutant):
    wrong = replace(T[name], formula=T[name].mutants[mutant])
    verdict = verify(wrong, quick=True)
    assert not verdict.holds, verdict


@pytest.mark.parametrize("name", T)
def test_it_has_teeth(name):
    theorem = T[name]
    assert theorem.mutants or T[theorem.applies].mutants


ATTAINED = [
    "c1",
    "t2",
    "t3",
    "t3b",
    "t4",
    "t4pl",
    "trap",
    "trap-lipschitz",
    "trap-smooth",
    "warm-start",
    "polyak",
    "t5",
    "t6",
    "t7",
    "e1",
    "e4",
    "e5",
    "u1",
    "u1pl",
    "u2",
    "u2sc",
    "u3",
    "u4",
    "us",
    "us-limit",
    "d1",
    "d2",
    "r1",
    "r2",
    "r2pl",
    "r3",
    "d3",
    "t2k",
    "kappa2",
    "wedge",
]


@pytest.mark.parametrize("name", ATTAINED)
def test_where_a_bound_is_attained_one_percent_is_refuted(name):
    assert any(mutant.startswith("1 %") for mutant in T[name].mutants)


@pytest.mark.parametrize("name", T)
def test_its_page_says_all_that_a_reader_needs(name):
    statement = T[name].statement
    assert [section for section in SECTIONS if section not in statement] == []
    assert re.search(r"[Dd]erived here|Measured here", statement)
    assert "Theorem 4" not in statement


def test_every_file_is_imported():
    source = Path(folder.__file__).read_text()
    helpers = {"digits"}
    names = {path.stem for path in Path(folder.__file__).parent.glob("*.py") if path.stem != "__init__"} - helpers
    assert {name for name in names if not re.search(rf"\b{name}\b", source)} == set()
    assert all(importlib.import_module(f"{folder.__name__}.{name}").__doc__ for name in names)


def test_every_claim_is_executed():
    assert {claim for theorem in T.values() for claim in theorem.claims} == CLAIMS.keys()


def test_the_order_is_by_claim():
    first = [theorem.claims[0] for theorem in T.values()]
    assert first == sorted(first)


def test_rows_on_data_say_which_statement_they_apply():
    assert {name: T[name].applies for name in T if T[name].applies} == {
        "digits-t1": "t1",
        "digits-t1d": "t1d",
        "digits-t6-m": "t6",
        "digits-t6-n": "t6",
        "digits-t6-vacuous": "t6",
    }
