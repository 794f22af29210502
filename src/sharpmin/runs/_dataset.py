"""Rows as an `xarray.Dataset`: a dimension for each field that varies over the runs, a variable for each number."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

from sharpmin.core.extras import optional

from ._store import Row, Task, key

if TYPE_CHECKING:
    from xarray import Dataset

np = optional("numpy", extra="lab")
xarray = optional("xarray", extra="lab")


def to_dataset(rows: Iterable[Row], tasks: Iterable[Task] = ()) -> Dataset:
    """Rows of a `Store`, labeled by their ids.

    A field of the ids that varies is a dimension, in the order of the fields; one that dimensions before it decide is a
    coordinate over these; one that is the same in all is a coordinate without dimension. A number of the rows is a variable of
    floats, nan where the run is missing or the row has None; a text is one of text, empty there. What is neither (lists,
    nested records) is named in `attrs["left_out"]` and stays in the store. A number called like a field of the ids is
    `result_<name>`. Labels that are no number, text or bool are JSON.

    Args:
        rows: the finished runs, such as `store.known(tasks).values()`.
        tasks: all runs, so that missing ones become nan.

    Returns:
        A dataset with as many entries in each variable as there are combinations of labels.

    Raises:
        ValueError: if there is no run at all, or if ids have different fields, so that no grid holds them.
        MissingExtraError: if xarray is not installed.

    >>> rows = [{"id": {"method": m, "seed": s, "lr": 0.1}, "loss": s + 0.5} for m, s in [("sam", 0), ("sam", 1), ("sgd", 1)]]
    >>> runs = to_dataset(rows)
    >>> runs.loss.dims, runs.loss.sel({"method": "sgd"}).values.tolist(), float(runs.lr)
    (('method', 'seed'), [nan, 1.5], 0.1)
    """
    found = {key(row["id"]): row for row in rows}
    ids = {key(task.id): task.id for task in tasks} | {k: row["id"] for k, row in found.items()}
    fields = _fields(list(ids.values()))
    grid = _Grid(fields)
    if len(set(grid.places)) < len(ids):
        raise ValueError("two runs have the same labels: their ids differ in the kind of a number alone, such as 1 and 1.0")
    place = dict(zip(ids, grid.places, strict=True))
    values, left_out = _values(list(found.values()))
    variables = {
        f"result_{name}" if name in fields else name: (grid.dims, _filled(grid.shape, [place[k] for k in found], column))
        for name, column in values.items()
    }
    dataset: Dataset = xarray.Dataset(variables, grid.coords(), {"left_out": left_out} if left_out else {})
    return dataset


class _Grid:
    """The fields that are dimensions, and the position of each run."""

    def __init__(self, fields: Mapping[str, Sequence[Any]]):
        self.fields = fields
        self.varying = {name: column for name, column in fields.items() if len(set(column)) > 1}
        self.dims, self.decided = _axes(self.varying)
        self.labels = {name: _ordered(self.varying[name]) for name in self.dims}
        self.shape = [len(self.labels[name]) for name in self.dims]
        numbers = [[self.labels[name].index(value) for value in self.varying[name]] for name in self.dims]
        self.places = list(zip(*numbers, strict=True)) or [()]

    def coords(self) -> dict[str, Any]:
        """All fields, each over the dimensions that it needs."""
        coords: dict[str, Any] = {name: (name, np.array(values)) for name, values in self.labels.items()}
        for name, over in self.decided.items():
            axes = [self.dims.index(dim) for dim in over]
            places = [tuple(place[axis] for axis in axes) for place in self.places]
            coords[name] = (over, _filled([self.shape[axis] for axis in axes], places, self.varying[name]))
        return coords | {name: ((), column[0]) for name, column in self.fields.items() if name not in self.varying}


def _values(rows: Sequence[Row]) -> tuple[dict[str, list[Any]], list[str]]:
    """The columns of numbers or texts, and the names of the other columns."""
    columns: dict[str, list[Any]] = {}
    left_out = []
    for name in sorted({name for row in rows for name in row} - {"id"}):
        column = [row.get(name) for row in rows]
        if _kinds(column) <= {"number", "bool"}:
            columns[name] = [float("nan") if value is None else float(value) for value in column]
        elif _kinds(column) == {"text"}:
            columns[name] = [value or "" for value in column]
        else:
            left_out.append(name)
    return columns, left_out


def _fields(ids: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The labels of all runs, field by field; each field has labels of one kind."""
    if not ids:
        raise ValueError("no run to label: neither rows nor tasks were given")
    odd = sorted({name for other in ids for name in set(other) ^ set(ids[0])})
    if odd:
        names = ", ".join(odd)
        raise ValueError(f"some ids have a field that others lack ({names}); label the rows of each kind by themselves")
    return {name: _labels([id_[name] for id_ in ids]) for name in ids[0]}


def _labels(column: list[Any]) -> list[Any]:
    """Labels as they are if all are numbers, texts or bools, else as JSON."""
    plain = _kinds(column) in ({"number"}, {"bool"}, {"text"}) and None not in column
    return column if plain else [json.dumps(value, sort_keys=True) for value in column]


def _kinds(column: Sequence[Any]) -> set[str]:
    """The kinds of the values other than None."""
    names = {bool: "bool", int: "number", float: "number", str: "text"}
    return {names.get(type(value), "other") for value in column if value is not None}


def _axes(columns: Mapping[str, Sequence[Any]]) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    """The dimensions, and the other fields with the fewest dimensions that decide them."""
    dims: list[str] = []
    decided: dict[str, tuple[str, ...]] = {}
    for name, column in columns.items():
        for some in (some for size in range(1, len(dims) + 1) for some in combinations(dims, size)):
            places = list(zip(*(columns[dim] for dim in some), strict=True))
            if len(set(places)) == len(set(zip(places, column, strict=True))):
                decided[name] = some
                break
        else:
            dims.append(name)
    return dims, decided


def _ordered(column: Sequence[Any]) -> list[Any]:
    """Sort numbers; keep the order of texts."""
    different = list(dict.fromkeys(column))
    return different if isinstance(different[0], str) else sorted(different)


def _filled(shape: Sequence[int], places: Sequence[tuple[int, ...]], column: Sequence[Any]) -> Any:
    """An array with the values at their places, nan or empty text elsewhere."""
    values = np.array(column) if column else np.zeros(0)
    whole = len(set(places)) == np.prod(shape)
    if values.dtype.kind == "U":
        out = np.full(shape, "", values.dtype)
    else:
        out = np.full(shape, 0 if whole else np.nan, values.dtype if whole else float)
    for place, value in zip(places, values, strict=True):
        out[place] = value
    return out
