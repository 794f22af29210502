"""The examples and recipes of Transformers and Accelerate run, without a warning of ours."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(arguments, folder):
    command = [sys.executable, "-W", "error::UserWarning", *arguments]
    settings = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=settings, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


@pytest.mark.parametrize("name", ["hf_trainer", "accelerate_loop"])
def test_the_example_runs(name, tmp_path):
    assert re.fullmatch(
        r"3 steps, test accuracy 0\.\d+, radius 0\.0500", run([ROOT / f"examples/{name}.py", "--steps", "3"], tmp_path)
    )


@pytest.mark.parametrize("page", ["transformers", "accelerate"])
def test_the_recipe_runs(page, tmp_path):
    code = "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / f"docs/recipes/{page}.md").read_text(), flags=re.DOTALL))
    assert run(["-c", code], tmp_path) == "2"
