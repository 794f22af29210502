"""One thread, fixed seeds, reproducible examples."""

import os
import shutil
import sys

import pytest
import torch
from hypothesis import settings

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]

torch.set_num_threads(1)
settings.register_profile("fixed", derandomize=True, deadline=None, database=None)
settings.load_profile("fixed")


@pytest.fixture(autouse=True)
def seed() -> int:
    """Every test starts from the same random state."""
    torch.manual_seed(0)
    return 0


@pytest.fixture(scope="session")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_api.sync_playwright() as playwright:
        try:
            found = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        except sync_api.Error as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(f"no browser: {str(error).splitlines()[0]}; install chromium, or run `playwright install chromium`")
        yield found
        found.close()


@pytest.fixture
def one_run(monkeypatch):
    """For code that makes an Accelerator on the CPU: its shared objects are fresh, and nothing of Hugging Face goes online."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for shared in ("AcceleratorState", "GradientState", "PartialState"):
        if module := sys.modules.get("accelerate.state"):
            getattr(module, shared)._reset_state()


@pytest.fixture
def trackers_here(monkeypatch, tmp_path):
    """Weights & Biases and MLflow write into a folder of this test, and nothing goes online."""
    (tmp_path / "wandb").mkdir()
    settings = {"MODE": "offline", "DIR": str(tmp_path), "SILENT": "true", "CONSOLE": "off", "ERROR_REPORTING": "false"}
    for name, value in settings.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # its default, a database, needs the whole of MLflow
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    yield tmp_path
    if wandb := sys.modules.get("wandb"):
        wandb.teardown()
