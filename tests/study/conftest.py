"""Made-up rows, and studies small enough for a test."""

from dataclasses import replace

import pytest

from sharpmin.study import METHODS, SETTINGS, Cell


def made_up(seeds=3, **changes):
    """Rows of a whole study on digits; changes: (method, noise) -> fields."""
    rows = {}
    for noise in (0.0, 0.3):
        for at, method in enumerate(METHODS):
            for seed in range(seeds):
                cell = Cell("digits", method, noise, seed)
                row = {"loss": 0.5 + at / 100, "accuracy": 0.9 - at / 100, "eigenvalue": 2.0 + at + seed}
                row |= {"verdict": "undecided" if seed else "rho holds the loss up", "seconds": 1.0, "id": cell.id}
                row |= {k: v[seed] if isinstance(v, list) else v for k, v in changes.get(f"{method} {noise}", {}).items()}
                rows[cell] = {"gap": row["loss"], **row}
    return rows


@pytest.fixture
def tiny(monkeypatch):
    """Digits with two epochs a run."""
    monkeypatch.setitem(SETTINGS, "digits", replace(SETTINGS["digits"], epochs=2))
