"""What every statement owes: it holds, its mutants are refuted, it is documented and listed."""

import copy
import importlib
import pickle
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import sharpmin.theory._theorems as folder
from sharpmin.theory import CLAIMS, theorems, verify

T = theorems()
SECTIONS = ("**Assumptions.**", "**Statement.**", "**Where it is", "**For training.**", "**Source.**")
MUTANTS = [(name, mutant) for name, theorem in T.items() for mutant in theorem.mutants]


@pytest.fixture(scope="module", autouse=True)
def once():
    """A run is simulated once: a mutant has another formula, and its runs are those of its statement."""
    module, runs = sys.modules["sharpmin.theory._simulation.simulate"], {}

    def kept(engine):
        def simulated(run):
            try:
                key = engine.__name__, pickle.dumps(run)
            except (AttributeError, pickle.PicklingError):  # a schedule without a name
                return engine(run)
            if key not in runs:
                runs[key] = engine(run)
            return copy.deepcopy(runs[key])

        return simulated

    with pytest.MonkeyPatch.context() as patch:
        for name in ("run_compiled", "run_reference"):
            patch.setattr(module, name, kept(getattr(module, name)))
        yield


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


@pytest.mark.parametrize("name", [name for name, theorem in T.items() if theorem.attained and not theorem.applies])
def test_where_a_bound_is_attained_one_percent_is_refuted(name):
    assert any(mutant.startswith("1 %") for mutant in T[name].mutants)


@pytest.mark.parametrize("name", T)
def test_its_page_says_all_that_a_reader_needs(name):
    statement = T[name].statement
    assert [section for section in SECTIONS if section not in statement] == []
    assert re.search(r"[Dd]erived here|Measured here", statement)
    assert "Theorem 4" not in statement


def test_every_file_that_registers_a_statement_is_imported():
    source = Path(folder.__file__).read_text()
    paths = [path for path in Path(folder.__file__).parent.glob("*.py") if "register(" in path.read_text()]
    names = {path.stem for path in paths}
    assert len(names) > 40
    assert {name for name in names if not re.search(rf"\b{name}\b", source)} == set()
    assert all(importlib.import_module(f"{folder.__name__}.{name}").__doc__ for name in names)


def test_every_claim_is_executed():
    assert {claim for theorem in T.values() for claim in theorem.claims} == CLAIMS.keys()


def test_the_order_is_by_claim():
    first = [theorem.claims[0] for theorem in T.values()]
    assert first == sorted(first)


def test_rows_on_data_are_of_the_statement_that_they_apply():
    rows = {name: theorem for name, theorem in T.items() if theorem.applies}
    assert len(rows) >= 5
    assert {name for name in T if name.startswith("digits-t")} <= rows.keys()
    for theorem in rows.values():
        whole = T[theorem.applies]
        assert (theorem.formula, theorem.kind, theorem.example) == (whole.formula, whole.kind, whole.example)
        assert not whole.applies
