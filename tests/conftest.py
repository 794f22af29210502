"""One thread, fixed seeds, reproducible examples."""

import gc
import os
import shutil
import sys
from pathlib import Path

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

TESTS = Path(__file__).parent
SLOW = """
check cli contract diagnostics gpu report soak study typing core/test_children.py runs/test_compute.py
optim/test_bases_of_today.py optim/test_checkpoint_fuzz.py optim/test_compile.py optim/test_descent.py
optim/test_fresh_process.py optim/test_geometry.py optim/test_golden.py optim/test_injection.py optim/test_memory.py
optim/test_momentum.py optim/test_no_host_read.py optim/test_numbers.py optim/test_operator_counts.py
optim/test_precision.py optim/test_quantized.py optim/test_resume.py optim/test_rounding.py optim/test_scope.py
optim/test_variants_oracle.py
test_benchmarks.py test_benchmarks_step_overhead.py test_docs.py test_examples.py test_imports.py test_mutants.py
test_notebooks.py test_package.py theory/test_certify.py theory/test_confront.py theory/test_digits.py
theory/test_engines.py theory/test_own.py theory/test_refute.py theory/test_verdicts.py
"""
MARKS = {
    "dist": [TESTS / "dist"],
    "integrations": [TESTS / "integrations", TESTS.parent / "docs" / "recipes"],
    "slow": [TESTS / name for name in SLOW.split()],
}
"""Mark -> places. `make quick` leaves all of these out: whole folders, and slow files of folders that are quick otherwise."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test in these places, and each that opens a browser."""
    marks = {
        path: [mark for mark, places in MARKS.items() if any(map(path.is_relative_to, places))]
        for path in {item.path for item in items}
    }
    for item in items:
        for mark in marks[item.path]:
            item.add_marker(mark)
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker("browser")


@pytest.fixture(scope="module", autouse=True)
def frozen() -> None:
    """Twenty thousand tests and all modules are no garbage: a collection within a test does not look at them."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def seed() -> int:
    """Every test starts from the same random state; torch.manual_seed would note a stack for each accelerator, too."""
    torch.default_generator.manual_seed(0)
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
def tabs(browser):
    """A function that opens pages; the test fails at its end if one logged a warning or an error, or if a request failed or
    went elsewhere.
    """
    contexts, trouble = [], []

    def opened(address, scheme="light", size=(1280, 900), *, ours=("file:",)):
        """A tab that may request addresses beginning with one of `ours`."""
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
        contexts.append(context)
        tab, ours = context.new_page(), ("data:", "blob:", *ours)
        tab.on("console", lambda message: trouble.append(message.text) if message.type in ("error", "warning") else None)
        tab.on("pageerror", lambda error: trouble.append(str(error)))
        tab.on("requestfailed", lambda request: trouble.append(f"failed: {request.url}"))
        tab.on("request", lambda request: None if request.url.startswith(ours) else trouble.append(f"foreign: {request.url}"))
        tab.goto(address)
        return tab

    yield opened
    for context in contexts:
        context.close()
    assert trouble == []


@pytest.fixture
def one_run(monkeypatch):
    """For code that makes an Accelerator: its global state is reset, and Hugging Face stays offline."""
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
