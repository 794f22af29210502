"""Made-up rows of a whole study, and a study that takes seconds."""

import pytest

from sharpmin.study import METHODS, judged, trials

from .tiny import shrink


def made_up(seeds=3, data="digits", best=0, **changes):
    """Rows of a whole study; the trial number `best` has the best validation accuracy.

    changes: "method noise" -> fields of its judged rows, or "method noise trials" of its trials; a list has one value a seed,
    or a trial.
    """
    rows, seen = {}, {}
    names = list(METHODS)
    for cell in trials(data):
        at = names.index(cell.method)
        number = seen[cell.method, cell.noise, cell.seed] = seen.get((cell.method, cell.noise, cell.seed), -1) + 1
        row = _row(at, cell) | {"validation": (0.9 if number == best else 0.5) - at / 100}
        rows[cell] = row | _of(changes.get(f"{cell.method} {cell.noise} trials", {}), number)
    for cell in judged(rows, data, seeds):
        at = names.index(cell.method)
        rows[cell] = _row(at, cell) | _of(changes.get(f"{cell.method} {cell.noise}", {}), cell.seed)
    return rows


def _row(at, cell):
    promised = METHODS[cell.method].promised or 1.5
    row = {"passes": round(promised * cell.steps), "climbed": 1, "copies": 1.0, "seconds": promised, "validation": 0.7}
    accuracy = 0.9 - at / 100 + (cell.seed % 7) / 500
    return {"id": cell.id, **row, "loss": 0.5 + at / 100, "gap": 0.5 + at / 100, "accuracy": accuracy}


def _of(fields, at):
    return {k: v[at] if isinstance(v, list) else v for k, v in fields.items()}


@pytest.fixture
def tiny(monkeypatch):
    shrink(monkeypatch)
