"""The examples run, and the code in the recipes is theirs."""

import os
import re
import runpy
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PRINTED = {
    "plain_loop.py": r"3 steps, last loss \d\.\d+, accuracy on the training set 0\.\d+",
    "plain_loop.py --closure": r"3 steps, last loss \d\.\d+, accuracy on the training set 0\.\d+",
    "amp.py": r"3 steps of which 0 skipped, scale 65536, last loss \d\.\d+",
    "accumulation.py": r"3 steps of 4 micro-batches, scope global, last loss \d\.\d+",
    "accumulation.py --scope microbatch": r"3 steps of 4 micro-batches, scope microbatch, last loss \d\.\d+",
    "two_optimizers.py": r"3 steps, critic \d\.\d+, generator \d\.\d+",
    "diagnose_a_run.py": r"diagnose: 0 blocks at constant rho and lr .*",
    "lightning_trainer.py": r"3 steps, last loss \d\.\d+",
}
RECIPES = ("accumulation", "amp", "ddp", "lightning")


@pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated")  # Lightning's own
@pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers")
@pytest.mark.parametrize("command", PRINTED)
def test_it_runs(command, capsys, monkeypatch, tmp_path):
    name, *options = command.split()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [name, "--steps", "3", *options])
    runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")
    assert re.fullmatch(PRINTED[command], capsys.readouterr().out.strip())
    assert list(tmp_path.iterdir()) == []


def test_the_two_doors_of_the_plain_loop_are_one(capsys, monkeypatch):
    for options in ([], ["--closure"]):
        monkeypatch.setattr(sys, "argv", ["plain_loop.py", "--steps", "5", *options])
        runpy.run_path(str(ROOT / "examples/plain_loop.py"), run_name="__main__")
    one, other = capsys.readouterr().out.splitlines()
    assert one == other


@pytest.mark.parametrize("scope", ["global", "rank"])
def test_it_runs_on_two_ranks(scope):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    run = subprocess.run(
        [*launch, "examples/ddp.py", "--steps", "3", "--scope", scope],
        cwd=ROOT,
        env={**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert re.fullmatch(r"3 steps on 2 ranks, weights equal: True, last loss \d\.\d+", run.stdout.strip())


@pytest.mark.parametrize("page", RECIPES)
def test_the_code_of_a_recipe_is_the_code_of_its_example(page):
    text = (ROOT / "docs/recipes" / f"{page}.md").read_text()
    names = re.findall(r"\]\(\.\./\.\./(examples/\w+\.py)\)", text)
    code = "\n".join((ROOT / name).read_text() for name in names)
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert names
    assert blocks
    for block in blocks:
        indented = (textwrap.indent(block, " " * 4 * depth) for depth in range(3))
        assert any(lines in code for lines in indented), block


def test_every_example_is_tested_and_short():
    tested = "".join(path.read_text() for path in Path(__file__).parent.glob("test_examples*.py"))
    for example in (ROOT / "examples").glob("*.py"):
        assert example.stem in tested
        assert len(example.read_text().splitlines()) < 80, example.name
