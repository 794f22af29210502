"""The file of a study: whole rows only, nothing computed twice, the same table however often it was interrupted."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sharpmin.runs import Store, compute
from sharpmin.study import _run, cells, run, table
from sharpmin.study._data import setting

SIZE = 20  # gradient evaluations


def some(count=4):
    return cells("digits", 1, evaluations=SIZE)[:count]


def finish(path, wanted):
    store = Store(path)
    for row in compute(run, [cell for cell in wanted if cell not in store.known(wanted)]):
        store.add(row)
    return store.known(wanted)


def test_cells_are_seed_after_seed_and_all_of_them():
    wanted = cells("digits", 3)
    assert len(wanted) == len(set(wanted)) == 2 * 9 * 3
    assert [cell.seed for cell in wanted] == sorted(cell.seed for cell in wanted)


def test_a_torn_file_gives_the_table_of_an_uninterrupted_one(tiny, tmp_path):
    wanted = some()
    whole = finish(tmp_path / "whole.jsonl", wanted)
    lines = (tmp_path / "whole.jsonl").read_text().splitlines(keepends=True)
    for kept in (lines[0], lines[0] + lines[1][:40], lines[0] + lines[2] + lines[1][:-1], lines[0][:3], "\n" + lines[3]):
        torn = tmp_path / "torn.jsonl"
        torn.write_text(kept)
        assert table(finish(torn, wanted)) == table(whole)
        assert table(Store(torn).known(wanted)) == table(whole)
        readable = [json.loads(line)["id"]["method"] for line in torn.read_text().splitlines() if line.endswith("}")]
        assert sorted(readable) == sorted(cell.method for cell in wanted)


def test_finished_runs_are_not_computed_again_and_others_are(tiny, tmp_path, monkeypatch):
    path, wanted = tmp_path / "rows.jsonl", some(2)
    finish(path, wanted)
    before = path.read_text()
    finish(path, wanted)
    assert path.read_text() == before
    for changed in (cells("digits", 1, evaluations=SIZE + 2)[:1], cells("digits", 2, evaluations=SIZE)[-1:]):
        assert Store(path).known(changed) == {}
    monkeypatch.setattr(type(setting("digits")), "lr", 0.01, raising=False)
    object.__setattr__(setting("digits"), "lr", 0.01)
    assert Store(path).known(wanted) == {}


@pytest.mark.parametrize(
    "change", [("accuracy", 1.0), ("seconds", None), ("more", 1), ("checksum", "0" * 16), ("checksum", None)]
)
def test_a_row_that_was_changed_is_run_again(change, tiny, tmp_path):
    path, wanted = tmp_path / "rows.jsonl", some(2)
    whole = finish(path, wanted)
    first, second = path.read_text().splitlines()
    key, value = change
    path.write_text(json.dumps(json.loads(first) | {key: value}) + "\n" + second + "\n")
    assert list(Store(path).known(wanted)) == wanted[1:]
    assert table(finish(path, wanted)) == table(whole)


@pytest.mark.parametrize("package", ["sharpmin", "torch"])
def test_rows_of_other_versions_are_not_mixed_in(package, tiny, tmp_path, monkeypatch):
    path, wanted = tmp_path / "rows.jsonl", some(2)
    finish(path, wanted)
    assert len(Store(path).known(wanted)) == 2
    monkeypatch.setattr(*{"sharpmin": (_run, "__version__"), "torch": (torch, "__version__")}[package], "0.0")
    assert Store(path).known(wanted) == {}


JSON = st.recursive(st.none() | st.floats() | st.text(), lambda own: st.lists(own) | st.dictionaries(st.text(), own))
LINES = st.lists(st.text() | JSON.map(json.dumps))


@settings(max_examples=100, deadline=None)
@given(lines=LINES)
def test_a_file_of_anything_is_no_row(lines, tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "rows.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8", errors="surrogatepass")
    assert Store(path).known(some(1)) == {}
