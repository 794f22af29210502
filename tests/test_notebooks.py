"""Every notebook runs from its first cell to its last, and shows what its text says."""

import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"


def run(name):
    """The code cells in order, in one namespace."""
    notebook = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    namespace = {"print": lambda *_: None}
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []  # stored outputs would grow old
            exec(compile("".join(cell["source"]), f"{name}, cell {number}", "exec"), namespace)
    return namespace


def test_from_a_conjecture_to_a_refutation():
    end = run("from_conjecture_to_refutation.ipynb")
    assert end["cycle"] == pytest.approx(0.05**2 / (2 * 1.95**2), rel=1e-9)
    assert not end["on_quadratics"].refuted
    assert end["on_quadratics"].ratio < 0.5
    assert end["found"].refuted
    assert end["again"]["measured"] / end["again"]["limit"] == pytest.approx(end["found"].ratio, rel=1e-6)
    assert not end["stands"].refuted


def test_no_notebook_is_left_out():
    assert [path.name for path in FOLDER.glob("*.ipynb")] == ["from_conjecture_to_refutation.ipynb"]
