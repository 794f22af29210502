"""The code in the recipe pages runs: it is that of an example, which the tests run, or it runs by itself."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OF_EXAMPLES = ("accumulation", "amp", "ddp", "fsdp2", "lightning")
BY_ITSELF = ("transformers", "accelerate")  # and batchnorm-dropout, with the other pages


def blocks(page):
    return re.findall(r"```python\n(.*?)```", (ROOT / f"docs/recipes/{page}.md").read_text(), flags=re.DOTALL)


def plain(code):
    """Without comments."""
    return re.sub(r"  # .*", "", code)


@pytest.mark.parametrize("page", OF_EXAMPLES)
def test_the_code_is_that_of_the_example(page):
    names = re.findall(r"\]\(\.\./\.\./(examples/\w+\.py)\)", (ROOT / f"docs/recipes/{page}.md").read_text())
    code = plain("\n".join((ROOT / name).read_text() for name in names))
    assert names
    assert blocks(page)
    for block in blocks(page):
        indented = (textwrap.indent(plain(block), " " * 4 * depth) for depth in range(3))
        assert any(lines in code for lines in indented), block


@pytest.mark.parametrize("page", BY_ITSELF)
def test_the_code_runs(page, tmp_path):
    settings = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    command = [sys.executable, "-W", "error::UserWarning", "-c", "\n".join(blocks(page))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=settings, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "2"


def test_every_page_is_in_the_index_and_tested():
    pages = {path.stem for path in (ROOT / "docs/recipes").glob("*.md")} - {"README"}
    assert pages == {*OF_EXAMPLES, *BY_ITSELF, "batchnorm-dropout"}
    index = (ROOT / "docs/recipes/README.md").read_text()
    assert all(f"]({page}.md)" in index for page in pages)
