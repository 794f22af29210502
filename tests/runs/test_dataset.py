"""Labeled rows against the rows themselves: each is where its labels say, and nothing else is anywhere."""

import math
import os
from dataclasses import dataclass

import numpy as np
import pytest
import xarray
from hypothesis import given, settings
from hypothesis import strategies as st

from sharpmin.runs import to_dataset, write_zarr, zarr_target

LABELS = {"method": ("sgd", "sam", "adam"), "noise": (0.3, 0.0), "seed": (2, 0, 7), "quick": (True, False), "data": ("digits",)}
IDS = st.lists(
    st.fixed_dictionaries({name: st.sampled_from(labels) for name, labels in LABELS.items()}), min_size=1, max_size=20
)


@dataclass(frozen=True)
class Task:
    method: str
    seed: int

    @property
    def id(self):
        return {"method": self.method, "seed": self.seed}


def unique(ids):
    return list({str(sorted(id_.items())): id_ for id_ in ids}.values())


@settings(max_examples=60)
@given(IDS)
def test_each_row_is_where_its_labels_say(ids):
    rows = [{"id": id_, "loss": number + 0.5, "text": f"n{number}"} for number, id_ in enumerate(unique(ids))]
    runs = to_dataset(rows)
    for row in rows:
        one = runs.sel({name: row["id"][name] for name in runs.dims})
        assert (one.loss.item(), one.text.item()) == (row["loss"], row["text"])
        assert {name: one[name].item() for name in LABELS} == row["id"]
    assert int(runs.loss.notnull().sum()) == int((runs.text != "").sum()) == len(rows)
    for name in runs.dims:
        assert len({row["id"][name] for row in rows}) == runs.sizes[name] > 1


def test_a_field_that_others_decide_is_a_coordinate_over_them():
    rows = [
        {"id": {"method": m, "noise": z, "seed": s, "rho": [z, 1], "lr": {"sam": 0.1, "sgd": 0.2}[m], "torch": "2"}, "loss": s}
        for m in ("sam", "sgd") for z in (0.0, 0.3) for s in (0, 1)
    ]  # fmt: skip
    runs = to_dataset(rows)
    assert dict(runs.sizes) == {"method": 2, "noise": 2, "seed": 2}
    assert {name: runs[name].dims for name in ("rho", "lr", "torch")} == {"rho": ("noise",), "lr": ("method",), "torch": ()}
    assert runs.rho.values.tolist() == ["[0.0, 1]", "[0.3, 1]"]
    assert (runs.lr.values.tolist(), runs.torch.item()) == ([0.1, 0.2], "2")


def test_missing_runs_have_their_place_and_what_is_no_number_is_named():
    tasks = [Task(method, seed) for method in ("sgd", "sam") for seed in (0, 1)]
    runs = to_dataset(
        [{"id": tasks[3].id, "seed": 5, "gap": None, "holds": True, "used": 3, "losses": [1.0], "verdict": "free"}], tasks
    )
    assert runs.attrs == {"left_out": ["losses"]}
    assert set(runs.data_vars) == {"result_seed", "gap", "holds", "used", "verdict"}
    assert runs.used.dims == ("method", "seed")
    np.testing.assert_array_equal(runs.used, [[math.nan, math.nan], [math.nan, 3.0]])
    np.testing.assert_array_equal(runs.holds, [[math.nan, math.nan], [math.nan, 1.0]])
    assert runs.gap.isnull().all()
    assert runs.verdict.values.tolist() == [["", ""], ["", "free"]]
    assert to_dataset([], tasks).sizes == {"method": 2, "seed": 2}


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([], "no run to label"),
        ([{"a": 1}, {"a": 1, "b": 2}], r"a field that others lack \(b\)"),
        ([{"a": 1}, {"a": 1.0}], "the same labels"),
    ],
)
def test_what_no_grid_holds_is_refused(ids, message):
    with pytest.raises(ValueError, match=message):
        to_dataset([{"id": id_} for id_ in ids])


def some(value=0.5):
    rows = [
        {"id": {"method": m, "seed": s, "on": m == "sam"}, "loss": value, "verdict": m + "é"}
        for m in ("sam", "sgd")
        for s in (1, 2)
    ]
    return to_dataset(rows[:-1])


def test_a_zarr_store_gives_the_dataset_back_and_replaces_an_older_one(tmp_path):
    for value in (0.5, 0.1 + 0.2):
        write_zarr(some(value), tmp_path / "runs.zarr")
        with xarray.open_zarr(tmp_path / "runs.zarr") as back:
            assert back.identical(some(value))
        assert os.listdir(tmp_path) == ["runs.zarr"]


@pytest.mark.parametrize("step", ["to_zarr", "rename"])
def test_an_older_store_stays_whole_where_the_new_one_cannot_be_written(step, tmp_path, monkeypatch):
    path, rename = tmp_path / "runs.zarr", os.rename
    write_zarr(some(), path)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    if step == "to_zarr":
        monkeypatch.setattr(xarray.Dataset, "to_zarr", full)
    else:
        monkeypatch.setattr(os, "rename", lambda a, b: full() if ".draft" in str(a) else rename(a, b))
    with pytest.raises(OSError, match="No space left"):
        write_zarr(some(1.0), path)
    assert os.listdir(tmp_path) == ["runs.zarr"]
    with xarray.open_zarr(path) as back:
        assert back.identical(some())


def test_where_no_store_can_be_is_said_at_once(tmp_path):
    (tmp_path / "mine.zarr").mkdir()
    (tmp_path / "mine.zarr" / "thesis.tex").write_text("")
    for name, message in (("runs.csv", "must end in .zarr"), ("mine.zarr", "is there, and no Zarr store")):
        with pytest.raises(ValueError, match=message):
            zarr_target(tmp_path / name)
    with pytest.raises(OSError, match=r"cannot write runs.zarr into .*missing"):
        zarr_target(tmp_path / "missing" / "runs.zarr")
