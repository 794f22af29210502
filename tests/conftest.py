"""One thread, fixed seeds, reproducible examples."""

import sys

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("fixed", derandomize=True, deadline=None, database=None)
settings.load_profile("fixed")


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
