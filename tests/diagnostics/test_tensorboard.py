"""Rows become scalars: every number of every row once, at its step, and nothing that is missing or not finite."""

import math
from importlib.util import find_spec

import pytest

import sharpmin as sm
from sharpmin.diagnostics.tensorboard import TensorBoard

from ..watched_runs import quadratic


class Recorder:
    def __init__(self):
        self.seen = []

    def add_scalar(self, tag, scalar_value, global_step=None):
        self.seen.append((tag, scalar_value, global_step))


def test_a_run_becomes_curves(tmp_path):
    recorder, rows = Recorder(), []
    quadratic([TensorBoard(recorder), rows.append], rho=0.3, noise=0.1, steps=40, block=20)
    steps = [row for row in rows if row["kind"] == "step"]
    blocks = [row for row in rows if row["kind"] == "block"]
    curves = {}
    for tag, value, step in recorder.seen:
        curves.setdefault(tag, []).append((step, value))
    assert curves["sharpmin/step/loss"] == [(row["step"], row["loss"]) for row in steps]
    assert curves["sharpmin/step/gradient norm"] == [(row["step"], math.sqrt(row["gg"])) for row in steps]
    assert curves["sharpmin/step/lag"] == [(row["step"], row["lag"]) for row in steps if "lag" in row]
    assert curves["sharpmin/block/smoothness"] == [(19, blocks[0]["norm_d"] / 0.3), (39, blocks[1]["norm_d"] / 0.3)]
    assert {len(points) for tag, points in curves.items() if "/step/" in tag and "lag" not in tag} == {40}


def test_prefix():
    recorder = Recorder()
    TensorBoard(recorder, prefix="sam")({"kind": "step", "step": 7, "rho": 0.1})
    assert recorder.seen == [("sam/step/rho", 0.1, 7)]


@pytest.mark.parametrize("value", [math.nan, math.inf, None, "nan"])
def test_what_is_not_finite_is_left_out(value):
    recorder = Recorder()
    TensorBoard(recorder)({"kind": "step", "step": 7, "loss": value, "rho": 0.0, "radius": 0.0})
    assert recorder.seen == [("sharpmin/step/rho", 0.0, 7), ("sharpmin/step/radius", 0.0, 7)]


if find_spec("tensorboard"):  # no extra of sharpmin: the writer is the user's, and the recorder above stands for it

    def test_a_real_writer(tmp_path):
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(tmp_path) as writer:
            quadratic([TensorBoard(writer)], rho=0.3, steps=20, block=10)
        assert sum(file.stat().st_size for file in tmp_path.iterdir()) > 1000


def test_the_log_of_the_run_is_the_same():
    """A writer takes rows and keeps its hands off them."""
    kept = []
    quadratic([TensorBoard(Recorder()), kept.append], rho=0.3, steps=20, block=10)
    log = sm.diagnostics.Log()
    for row in kept:
        log.add(row)
    assert len(log.steps) == 20
    assert len(log.blocks) == 2
