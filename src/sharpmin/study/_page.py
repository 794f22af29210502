"""A study as one self-contained HTML page, in the look of the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from sharpmin._version import __version__
from sharpmin.report._render import render

from ._data import Setting
from ._figures import KEYS, NOISES, draw
from ._findings import findings
from ._run import LR, Cell
from ._table import table


def page(setting: Setting, rows: Mapping[Cell, Mapping[str, Any]], note: str = "") -> str:
    """The page; a pure function of the rows.

    Args:
        setting: the data set.
        rows: cell -> row; at least one.
        note: a line on top, such as that the study was interrupted.
    """
    lines = table(rows)
    plates = draw(setting, lines)
    return render(
        "study.html.j2",
        plates,
        setting=setting,
        note=note,
        groups=[(title, [line for line in lines if line.noise == noise]) for noise, title in NOISES.items()],
        titles={name: key.name for name, key in KEYS.items()},
        findings=findings(rows),
        plates=plates,
        seeds=max(line.runs for line in lines),
        few=all(line.few for line in lines),
        runs=len(rows),
        evaluations=max(cell.budget for cell in rows),
        seconds=sum(float(row["seconds"]) for row in rows.values()),
        stages=LR,
        versions=[("sharpmin", __version__), ("torch", torch.__version__)],
    )
