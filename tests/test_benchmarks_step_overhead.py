"""The benchmark of a step runs, refuses wrong code, and writes what it measured; no time is judged."""

import importlib
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import sharpmin as sm

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("step_overhead")


def test_structure(bench, tmp_path, capsys):
    path = tmp_path / "out.json"
    bench.main(["--nets", "mlp", "--rounds", "2", "--json", str(path)])
    written = json.loads(path.read_text())
    (net,) = written["nets"]
    assert (written["threads"], written["seed"]) == (1, 0)
    assert (net["net"], net["tensors"], net["parameters"], net["rounds"]) == ("mlp", 202, 106_656, 2)
    assert list(net["methods"]) == list(bench.METHODS)
    assert "floor again" in net["methods"]
    for row in net["methods"].values():
        assert 0 < row["low"] <= row["ratio"] <= row["high"]
        assert row["ms"] > 0
        assert row["ratio_of_medians"] > 0
    assert net["methods"]["floor"] == {**net["methods"]["floor"], **dict.fromkeys(("ratio", "low", "high"), 1.0)}
    assert net["reached"] == (net["methods"]["SAM"]["low"] <= net["target"])
    assert np.isnan(net["watching"])  # fewer rounds than a cycle
    ratios = np.array([1.5, 1.1, *[1.0] * 6, 3.0, 1.1, *[1.0] * 6, 1.5, 1.1, *[1.0] * 6, 9.0])
    assert bench.watching(ratios) == pytest.approx(0.6 / 8)
    assert list(net["phases"]) == ["perturb", "restore", "step less base step", "total"]
    assert all(share > 0 for share in net["phases"].values())
    assert "two-step wrapper" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "tensors", "parameters"), [("resnet", 62, 11_173_962), ("transformer", 76, 3_066_472)])
def test_shapes_of_the_nets(bench, name, tensors, parameters):
    sizes = [p.numel() for p in bench.CASES[name].net().parameters()]
    assert (len(sizes), sum(sizes)) == (tensors, parameters)


def wrong_rho(task):
    """A ten-thousandth more than it should be."""
    opt = sm.SAM(task.base(), rho=0.05 * 1.0001)

    def closure():
        opt.zero_grad()
        return task.passes()

    return partial(opt.step, closure)


def no_pass(task):
    return torch.optim.SGD(task.net.parameters(), lr=task.lr).step


@pytest.mark.parametrize("make", [wrong_rho, no_pass])
def test_wrong_code_is_not_timed(bench, make):
    new_task = bench.prepare(bench.CASES["mlp"], seed=0)
    with pytest.raises(SystemExit, match="wrong is not two-step wrapper"):
        bench.demand_agreement(new_task, {"wrong": bench.Method(make)})
