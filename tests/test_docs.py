"""Every Python block of a page in docs/ runs, in order, and prints what its comments say; or it is a piece of an example."""

import re
from pathlib import Path

import pytest
import torch

from sharpmin.diagnostics._run.log import read

DOCS = Path(__file__).parents[1] / "docs"
PRINTED = {
    "bases.md": "20 20",
    "canon.md": "0.3",
    "certify.md": "True True\nTrue\nTrue",
    "cluster.md": "('seed',) 1",
    "kappa.md": "0.006440625 0.006440625",
    "language-models.md": "2\n12\nTrue\n[2, 2]\nTrue\n12",
    "migration.md": "0.02",
    "parts.md": "1",
    "plateau.md": "290 54\n54",
    "recipes/accelerate.md": "2",
    "recipes/accumulation.md": "0.38\n0.41",
    "recipes/amp.md": "True True",
    "recipes/batchnorm-dropout.md": "1 True",
    "recipes/lightning.md": "4 16 2",
    "recipes/several-bases.md": "0.05",
    "recipes/trackers.md": "0.05\n0.05",
    "recipes/transformers.md": "2",
    "recipes/two-losses.md": "2",
    "reproduce.md": "True ==",
    "rho.md": "1020 True",
    "training.md": "0.05 2 True\n360 1.0",
    "sharpness.md": "0.0: 0.04 0.09 1.2\n0.2: 0.03 0.06 0.7\n5 ± 0.3\n0.3",
}
QUOTES = {
    "recipes/cuda-graphs.md": "cuda_graph.py",
    "recipes/ddp.md": "ddp.py",
    "recipes/fsdp2.md": "fsdp2.py",
}  # they need a GPU, or two processes: tests/test_examples.py runs them


def blocks(page):
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), flags=re.DOTALL)


@pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated")  # Lightning reads torch's pytree by an old name
@pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers")
@pytest.mark.filterwarnings("ignore:The number of training batches")
@pytest.mark.parametrize("page", PRINTED)
def test_the_page_runs(page, tmp_path, monkeypatch, one_run, trackers_here):
    monkeypatch.chdir(tmp_path)  # some pages write files
    printed: list[str] = []
    namespace: dict[str, object] = {"print": lambda *values: printed.append(" ".join(map(str, values)))}
    for block in blocks(page):
        exec(compile(block, page, "exec"), namespace)
    assert "\n".join(printed) == PRINTED[page]


class Killed(Exception):
    """What ends the script."""


def test_the_script_of_the_page_goes_on_after_a_kill(tmp_path, monkeypatch):
    """In the middle of an epoch: that epoch is taken again, no step is lost or logged twice, and nothing else differs."""
    monkeypatch.chdir(tmp_path)
    first, script = blocks("training.md")
    namespace: dict[str, object] = {"print": lambda *values: None}
    exec(compile(first, "training.md", "exec"), namespace)
    clip, calls = torch.nn.utils.clip_grad_norm_, []

    def killing(*arguments):
        calls.append(0)
        if len(calls) == 100:
            raise Killed
        return clip(*arguments)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", killing)
    with pytest.raises(Killed):
        exec(compile(script, "training.md", "exec"), namespace)
    assert torch.load("checkpoint.pt")["epoch"] == 4  # 24 steps an epoch
    exec(compile(script, "training.md", "exec"), namespace)
    assert len(calls) == 100 + 360 - 96
    opt, schedule = namespace["opt"], namespace["scheduler"]
    assert (opt.last.steps, schedule.last_epoch) == (360, 360)
    assert [row["step"] for row in read("run.jsonl").steps] == list(range(360))


@pytest.mark.parametrize("page", QUOTES)
def test_the_page_quotes_its_example(page):
    code = (DOCS.parent / "examples" / QUOTES[page]).read_text()
    assert blocks(page)
    for block in blocks(page):
        assert block in code


def test_every_recipe_is_tested_and_in_the_index():
    pages = {str(page.relative_to(DOCS)) for page in (DOCS / "recipes").glob("*.md")} - {"recipes/README.md"}
    assert pages <= PRINTED.keys() | QUOTES.keys()
    index = (DOCS / "recipes/README.md").read_text()
    assert all(f"]({Path(page).name})" in index for page in pages)
    for example in (DOCS.parent / "examples").glob("*.py"):
        assert f"](../../examples/{example.name})" in index


def test_links_between_pages_lead_somewhere():
    for page in [*DOCS.rglob("*.md"), DOCS.parent / "README.md"]:
        text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
        for link in re.findall(r"\]\((?!http)([^)#]+)", text):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


STEMS = "general|initial|maxim|memor|minim|normal|optim|parametr|penal|quant|real|recogn|regular|standard|synchron"
BRITISH = re.compile(rf"\w*(?:{STEMS})is(?:e|ed|er|es|ing|ation)s?\b|\w*(?:col|behavi|neighb)our\w*|\bcentred?\b", re.I)
PLACES = ("src", "tests", "docs", "tools", "benchmarks", "examples", "templates")


def test_one_spelling():
    root, title = DOCS.parent, "Sharpness Aware Minimisation"
    files = [file for place in PLACES for end in ("py", "md", "j2", "js", "ipynb") for file in (root / place).rglob(f"*.{end}")]
    files += root.glob("*.md")
    files.remove(root / "CHANGELOG.md")  # it quotes what was renamed
    words = {w: file.name for file in files for w in re.findall(r"\w+", file.read_text(encoding="utf-8").replace(title, ""))}
    assert {word: name for word, name in words.items() if BRITISH.search(word)} == {}
