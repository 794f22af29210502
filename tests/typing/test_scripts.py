"""`mypy --strict` on scripts as users write them: each line says what must be found there, and nothing else may be."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sharpmin

SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("*.py"))

HEAVY = """
torch._decomp torch._dynamo torch._export torch._functorch torch._higher_order_ops torch._inductor torch._numpy torch._prims
torch._refs torch._subclasses torch.ao torch.distributed torch.distributions torch.export torch.fx torch.onnx torch.package
torch.quantization torch.sparse torch.testing torch.utils.tensorboard
transformers.cli transformers.configuration_utils transformers.data transformers.distributed transformers.generation
transformers.integrations transformers.loss transformers.modeling_utils transformers.models transformers.pipelines
transformers.processing_utils transformers.quantizers transformers.utils
lightning.fabric lightning.pytorch.accelerators lightning.pytorch.loggers lightning.pytorch.loops lightning.pytorch.plugins
lightning.pytorch.profilers lightning.pytorch.strategies lightning_utilities torchmetrics
PIL aiohttp fsspec httpx huggingface_hub jinja2 markdown_it matplotlib networkx numba numpy pandas plotly psutil pygments
peft requests rich safetensors scipy sklearn sympy tokenizers typer xarray yaml
"""
"""What mypy would read for minutes, and what says nothing of what the scripts use."""

FOUND = re.compile(
    r"(?P<file>\w+)\.py:(?P<line>\d+): (?:error: .*\[(?P<code>[\w-]+)\]|note: Revealed type is \"(?P<type>.*)\")"
)
SAID = re.compile(r"  # (E|R): (.*)")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What mypy says of (script, line): the codes of its errors, or the type that it reveals."""
    folder = tmp_path_factory.mktemp("mypy")
    skipped = "".join(f"[mypy-{name}.*]\nfollow_imports = skip\n" for name in HEAVY.split())
    (folder / "mypy.ini").write_text(f"[mypy]\nstrict = true\n{skipped}")
    for script in SCRIPTS:
        (folder / script.name).write_text(script.read_text())
    search = os.pathsep.join([str(Path(sharpmin.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    mypy = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--config-file=mypy.ini",
        f"--cache-dir={folder / 'cache'}",
        "--no-pretty",
    ]
    done = subprocess.run(
        [*mypy, *(script.name for script in SCRIPTS)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": search},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    out = {}
    for line in done.stdout.splitlines():
        if match := FOUND.match(line):
            out.setdefault((match["file"], int(match["line"])), []).append(match["code"] or match["type"])
        else:
            assert "note: " in line or line.startswith("Found "), line
    return out


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_what_mypy_says(found, script):
    said = {}
    for number, line in enumerate(script.read_text().splitlines(), 1):
        if match := SAID.search(line):
            said[number] = match[2].split() if match[1] == "E" else [match[2]]
    assert len(said) >= 3
    assert {line: sorted(what) for (name, line), what in found.items() if name == script.stem} == {
        line: sorted(what) for line, what in said.items()
    }
