"""The file of a study: whole rows only, nothing computed twice, the same table however often it was interrupted."""

import json

from sharpmin.study import Store, cells, compute, table
from sharpmin.study._data import setting

SIZE = 20  # gradient evaluations


def some(count=4):
    return cells("digits", 1, evaluations=SIZE)[:count]


def finish(path, wanted):
    store = Store(path)
    for row in compute([cell for cell in wanted if cell not in store.known(wanted)], jobs=1):
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
