"""One thread, fixed seeds, reproducible examples."""

import sys
from pathlib import Path

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("fixed", derandomize=True, deadline=None, database=None)
settings.load_profile("fixed")

ROOT = Path(__file__).parents[1]
MARKS = {
    "dist": ["tests/dist"],
    "integrations": ["tests/integrations", "docs/recipes"],
    "slow": [],
}
"""What `make quick` leaves out: folders, and files of folders that are quick without them. Everything else is in it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A mark for each test in these folders, and for each that opens a browser."""
    for item in items:
        place = item.path.relative_to(ROOT)
        for mark, places in MARKS.items():
            if any(place.is_relative_to(known) for known in places):
                item.add_marker(mark)
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker("browser")


@pytest.fixture(autouse=True)
def seed() -> int:
    """Every test starts from the same random state."""
    torch.manual_seed(0)
    return 0


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
