"""The callables of docs/recipes/trackers.md with the real packages, offline: what they logged, read back from their files."""

import json
import math
import re
import struct
from pathlib import Path

import pytest

from sharpmin.diagnostics import scalars
from sharpmin.diagnostics.tensorboard import TensorBoard

from ..watched_runs import quadratic

PAGE = Path(__file__).parents[2] / "docs/recipes/trackers.md"


def recipe(title):
    """What the code block under a title of the page defines."""
    (code,) = re.findall(rf"^\*\*{re.escape(title)}\*\*\n\n```python\n(.*?)```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    space = {}
    exec(compile(code, PAGE.name, "exec"), space)
    return space


def logged_offline(file):
    """The records of an offline run of W&B: a header of 7 bytes, then the log format of LevelDB in blocks of 32 KiB."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, whole = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        size, part = struct.unpack_from("<HB", data, at + 4)
        whole += data[at + 7 : at + 7 + size]
        at += 7 + size
        if part in (1, 4):  # whole, or the last of several
            yield Record.FromString(whole)
            whole = b""


def of_wandb(file):
    """Name -> (step, value) of all history, and which axis which names have."""
    curves, axes = {}, {}
    for record in logged_offline(file):
        if record.WhichOneof("record_type") == "metric":
            axes[record.metric.glob_name] = record.metric.step_metric
        if record.WhichOneof("record_type") == "history":
            row = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            step = row.pop("sharpmin/at")
            for name, value in row.items():
                if not name.startswith("_"):
                    curves.setdefault(name, []).append((step, value))
    return curves, axes


def of_mlflow(client, run_id):
    names = client.get_run(run_id).data.metrics
    return {name: [(m.step, m.value) for m in client.get_metric_history(run_id, name)] for name in names}


class Curves:
    def __init__(self):
        self.drawn = {}

    def add_scalar(self, tag, value, step):
        self.drawn.setdefault(tag, []).append((step, value))


@pytest.fixture
def watched():
    """A run with noise: every number differs from step to step."""

    def run(tracker):
        board, rows = Curves(), []
        quadratic([tracker, TensorBoard(board), rows.append], rho=0.3, noise=0.1, steps=40, block=20)
        return board.drawn, rows

    return run


def test_wandb_has_every_number_of_every_row(trackers_here, watched):
    page = recipe("Weights & Biases")
    drawn, rows = watched(page["to_wandb"])
    page["run"].finish()
    page["wandb"].teardown()  # waits for the process that writes the file: `finish` comes back before its last block is on disk
    (file,) = trackers_here.glob("wandb/offline-run-*/run-*.wandb")
    curves, axes = of_wandb(file)
    assert axes == {"sharpmin/*": "sharpmin/at"}
    assert curves == drawn
    by_hand(curves, rows)


def test_mlflow_has_every_number_of_every_row(trackers_here, watched):
    page = recipe("MLflow")
    mlflow = page["mlflow"]
    run_id = mlflow.active_run().info.run_id
    drawn, rows = watched(page["to_mlflow"])
    mlflow.end_run()
    curves = of_mlflow(mlflow.MlflowClient(), run_id)
    assert curves == drawn
    by_hand(curves, rows)


def by_hand(curves, rows):
    steps, blocks = ([row for row in rows if row["kind"] == kind] for kind in ("step", "block"))
    assert (len(steps), len(blocks)) == (40, 2)
    assert curves["sharpmin/step/loss"] == [(row["step"], row["loss"]) for row in steps]
    assert curves["sharpmin/step/gradient norm"] == [(row["step"], math.sqrt(row["gg"])) for row in steps]
    assert curves["sharpmin/block/loss"] == [(19, blocks[0]["loss"]), (39, blocks[1]["loss"])]
    assert len(curves) == len({name for row in rows for name in scalars(row)[1]}) >= 12


def test_a_row_that_opens_a_run_has_no_numbers():
    assert scalars({"kind": "run", "version": 2}) == (0, {})
