"""A study that takes seconds: four methods, four trials each, one epoch. As code, so that other processes can have it, too."""

from dataclasses import replace

from sharpmin.study import METHODS, SETTINGS, _methods

KEPT = ("base", "base-2", "sam", "every-3")
CODE = f"""
from dataclasses import replace
from sharpmin.study import METHODS, SETTINGS, _methods
SETTINGS["digits"] = replace(SETTINGS["digits"], epochs=1)
_methods.RATES, _methods.ONLY_RATES = (1.0,), (0.5, 1.0, 2.0, 4.0)
for name in METHODS.keys() - set({KEPT!r}):
    del METHODS[name]
"""
TRIALS, JUDGED = len(KEPT) * 4 * 2 * 2, len(KEPT) * 2
"""Runs: methods x trials x seeds x clean and noisy; methods x clean and noisy, a seed."""


def shrink(monkeypatch):
    """The same in this process."""
    monkeypatch.setitem(SETTINGS, "digits", replace(SETTINGS["digits"], epochs=1))
    monkeypatch.setattr(_methods, "RATES", (1.0,))
    monkeypatch.setattr(_methods, "ONLY_RATES", (0.5, 1.0, 2.0, 4.0))
    only(monkeypatch, METHODS, KEPT)


def only(monkeypatch, table, names):
    """Leave these entries. Undone, the table has its order again: what was deleted last comes back first."""
    kept = {name: table[name] for name in names}
    for name in reversed([*table]):
        monkeypatch.delitem(table, name)
    for name, value in kept.items():
        monkeypatch.setitem(table, name, value)
