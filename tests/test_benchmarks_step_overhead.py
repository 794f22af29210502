"""The benchmark of a step runs, refuses wrong code, and writes what it measured; no time is judged."""

import importlib
import json
from dataclasses import replace
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
        bench.require_agreement(new_task, {"wrong": importlib.import_module("_methods").Method(make)})


@pytest.fixture
def cuda(bench, monkeypatch):
    """The run on a GPU with nets that a CPU bears; `cuda.main(..., device="cpu")` makes it."""
    module = importlib.import_module("_cuda")
    cases = importlib.import_module("_cuda_cases")
    tiny = cases.CASES["gpt"], partial(cases.GPT, 2, 16, 2, 40, 8), partial(cases.tokens, 2, 40, 8)
    small = {
        "gpt": replace(tiny[0], net=tiny[1], data=tiny[2]),
        "gpt-bf16": replace(cases.CASES["gpt-bf16"], net=tiny[1], data=tiny[2]),
        "resnet18": replace(cases.CASES["resnet18"], data=partial(cases.pictures, 2, 8, 10), net=pictures_net),
        "resnet50": replace(cases.CASES["resnet50"], needs="no_such_module"),
    }
    monkeypatch.setattr(module, "CASES", small)
    monkeypatch.setattr(module, "STEPS", 2)
    return module


def pictures_net():
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.Linear(144, 10))


def test_the_run_on_a_gpu(cuda, capsys):
    found = cuda.main(None, rounds=1, seed=0, device="cpu")
    printed = capsys.readouterr().out
    assert [net["net"] for net in found["nets"]] == ["gpt", "gpt-bf16", "resnet18"]
    assert "resnet50: no_such_module is not installed" in printed
    assert printed.startswith(f"a CPU, torch {torch.__version__}, CUDA ")
    assert found["device"] in printed
    for net in found["nets"]:
        assert (net["rounds"], net["steps"]) == (1, cuda.STEPS)
        assert list(net["methods"]) == list(cuda.methods())
        for row in net["methods"].values():
            assert 0 < row["low"] <= row["ratio"] <= row["high"]
            assert row["peak"] is None  # torch counts a GPU's memory only
        assert np.isnan(net["methods"]["SAM watch"]["cycle"])  # fewer rounds than a cycle
    for name in cuda.PEERS:
        assert (f"{name}: not installed" in printed) == (name in found["absent"])
        assert (name in found["absent"]) != (name in found["nets"][0]["methods"])


def test_shapes_of_the_nets_for_a_gpu(bench):
    cases = importlib.import_module("_cuda_cases").CASES
    with torch.device("meta"):
        sizes = {name: [p.numel() for p in cases[name].net().parameters()] for name in ("mlp", "resnet18", "gpt", "gpt-bf16")}
    counts = {name: (len(own), sum(own)) for name, own in sizes.items()}
    assert counts["mlp"] == (202, 106_656)
    assert counts["resnet18"] == (62, 11_173_962)
    assert counts["gpt"] == counts["gpt-bf16"] == (148, 124_475_904)


def test_one_task_serves_all_methods(bench):
    cases = importlib.import_module("_cuda_cases")
    task = cases.on_device(replace(cases.CASES["resnet18"], net=pictures_net, data=partial(cases.pictures, 2, 8, 10)), "cpu", 0)
    assert task.base() is task.base()
    assert task.x.is_contiguous(memory_format=torch.channels_last)
    assert task.net[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert task.passes().isfinite()
    low = cases.on_device(replace(cases.CASES["gpt-bf16"], net=partial(cases.GPT, 1, 16, 2, 40, 8)), "cpu", 0)
    assert {p.dtype for p in low.net.parameters()} == {torch.bfloat16}
    assert low.base().defaults["fused"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(bench):
    with pytest.raises(SystemExit, match="needs a GPU"):
        bench.main(["--device", "cuda"])


def test_a_net_of_the_other_device_is_refused(bench, capsys):
    with pytest.raises(SystemExit):
        bench.main(["--nets", "gpt"])
    assert "on cpu there is no net gpt; there are mlp, resnet, transformer" in capsys.readouterr().err
