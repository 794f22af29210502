"""The examples run and do what they say, and the code in the recipes is theirs."""

import os
import re
import runpy
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from torch import nn

ROOT = Path(__file__).parents[1]
NUMBER = r"\d+\.\d+"
PRINTED = {
    "plain_loop.py": rf"3 steps, last loss {NUMBER}, test accuracy {NUMBER}, radius 0\.0500",
    "plain_loop.py --closure": rf"3 steps, last loss {NUMBER}, test accuracy {NUMBER}, radius 0\.0500",
    "amp.py": rf"3 steps, 0 of them skipped, scale 65536, last loss {NUMBER}",
    "amp.py --scale 1e30": rf"3 steps, 3 of them skipped, scale 1\.25e\+29, last loss {NUMBER}",
    "accumulation.py": rf"3 steps, scope global, last loss {NUMBER}, test accuracy {NUMBER}",
    "accumulation.py --scope microbatch": rf"3 steps, scope microbatch, last loss {NUMBER}, test accuracy {NUMBER}",
    "two_optimizers.py": rf"3 steps, loss of the critic {NUMBER}, of the generator {NUMBER}, radii 0\.020 and 0\.020",
    "lightning_trainer.py": rf"3 steps, test accuracy {NUMBER}, radius 0\.0500",
}
SEEN = {"accumulation.py": 12, "lightning_trainer.py": 6, "two_optimizers.py": 6}  # batches for BatchNorm, if not 3
RANKS = {
    "ddp.py --scope global": rf"3 steps on 2 ranks, scope global, loss {NUMBER}, weights agree: True",
    "ddp.py --scope rank": rf"3 steps on 2 ranks, scope rank, loss {NUMBER}, weights agree: True",
    "fsdp2.py": rf"3 steps, 2469 of 4938 weights here, loss {NUMBER}, norms agree: True",
}
RECIPES = ("accumulation", "amp", "ddp", "fsdp2", "lightning")


@pytest.fixture
def example(capsys, monkeypatch, tmp_path):
    """Runs an example in an empty folder; returns what it printed and its variables."""

    def run(command):
        name, *options = command.split()
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [name, *options])
        variables = runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")
        return capsys.readouterr().out.strip(), variables

    return run


@pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated")  # Lightning's own
@pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers")
@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")
@pytest.mark.parametrize("command", PRINTED)
def test_it_runs(command, example, tmp_path):
    printed, variables = example(f"{command} --steps 3")
    assert re.fullmatch(PRINTED[command], printed)
    assert list(tmp_path.iterdir()) == []
    nets = [v for v in variables.values() if isinstance(v, nn.Module)]
    norms = [m for net in nets for m in net.modules() if isinstance(m, nn.BatchNorm1d)]
    assert norms
    assert {int(norm.num_batches_tracked) for norm in norms} == {SEEN.get(command.split()[0], 3)}


def test_the_two_doors_of_the_plain_loop_are_one_and_that_is_sam(example):
    printed, block = example("plain_loop.py --steps 4")
    assert (printed, True) == (example("plain_loop.py --steps 4 --closure")[0], True)
    torch.manual_seed(0)
    nets = [m for m in block["model"] if isinstance(m, nn.Linear)]
    new = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 10))
    velocity = [torch.zeros_like(p) for p in new.parameters()]
    for step in range(4):
        rows = torch.randint(1500, (64,))
        lr = 0.1 * (1 + torch.cos(torch.tensor(torch.pi * step / 4)).item()) / 2
        by_hand(new, block["train"][rows], block["train_labels"][rows], velocity, lr)
    for own, right in zip(nets, [m for m in new if isinstance(m, nn.Linear)], strict=True):
        torch.testing.assert_close(own.weight, right.weight, rtol=1e-4, atol=1e-6)


def by_hand(net, x, y, velocity, lr):
    """One SAM step with momentum .9, from the equations; BatchNorm's statistics are not compared."""
    start = torch.get_rng_state()
    params = list(net.parameters())
    g = torch.autograd.grad(nn.functional.cross_entropy(net(x), y), params)
    after, scale = torch.get_rng_state(), 0.05 / torch.cat([part.reshape(-1) for part in g]).norm()
    with torch.no_grad():
        before = [p.clone() for p in params]
        for p, part in zip(params, g, strict=True):
            p.add_(scale * part)
    torch.set_rng_state(start)
    big = torch.autograd.grad(nn.functional.cross_entropy(net(x), y), params)
    torch.set_rng_state(after)
    with torch.no_grad():
        for p, was, part, v in zip(params, before, big, velocity, strict=True):
            v.mul_(0.9).add_(part)
            p.copy_(was - lr * v)


def test_the_diagnosis_of_the_run_that_the_page_is_about(example, tmp_path):
    printed, variables = example("diagnose_a_run.py --log run.jsonl")
    assert printed.startswith("rho holds the loss up.")
    assert variables["probe"].step == 1160
    assert [path.name for path in tmp_path.iterdir()] == ["run.jsonl"]


@pytest.mark.parametrize("command", RANKS)
def test_it_runs_on_two_ranks(command, tmp_path):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    name, *options = command.split()
    run = subprocess.run(
        [*launch, ROOT / "examples" / name, "--steps", "3", "--save", "weights.pt", *options],
        cwd=tmp_path,
        env={**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert re.fullmatch(RANKS[command], run.stdout.strip())
    saved = torch.load(tmp_path / "weights.pt", weights_only=True)
    assert sum(t.numel() for key, t in saved.items() if "running" not in key and "tracked" not in key) == 4938
    assert all(t.isfinite().all() for t in saved.values())


@pytest.mark.parametrize("page", RECIPES)
def test_the_code_of_a_recipe_is_the_code_of_its_example(page):
    text = (ROOT / "docs/recipes" / f"{page}.md").read_text()
    names = re.findall(r"\]\(\.\./\.\./(examples/\w+\.py)\)", text)
    code = plain("\n".join((ROOT / name).read_text() for name in names))
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert names
    assert blocks
    for block in blocks:
        indented = (textwrap.indent(plain(block), " " * 4 * depth) for depth in range(3))
        assert any(lines in code for lines in indented), block


def plain(code):
    """Without comments."""
    return re.sub(r"  # .*", "", code)


def test_every_example_is_tested_and_short():
    tested = "".join(path.read_text() for path in Path(__file__).parent.glob("test_examples*.py"))
    for example in (ROOT / "examples").glob("*.py"):
        assert example.stem in tested
        assert len(example.read_text().splitlines()) < 80, example.name
