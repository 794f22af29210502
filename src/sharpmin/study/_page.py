"""A study as one self-contained HTML page, in the look of the report."""

from __future__ import annotations

import torch

from sharpmin._version import __version__
from sharpmin.report._render import render

from ._figures import caption, draw
from ._findings import findings
from ._frontier import places
from ._methods import METHODS, title
from ._settings import Setting
from ._table import table
from ._trials import TUNING, Rows


def page(setting: Setting, rows: Rows, note: str = "") -> str:
    """The page; a pure function of the rows.

    Args:
        setting: the data set.
        rows: cell -> row; all trials, and at least one judged run of each method.
        note: a line on top, such as that the study was interrupted.
    """
    lines, found = table(rows), findings(rows)
    plates = draw(setting, rows, lines)
    noises = sorted({line.noise for line in lines})
    return render(
        "study.html.j2",
        plates,
        setting=setting,
        note=note,
        groups=[
            (caption(noise), [line for line in lines if line.noise == noise], [f for f in found if f.noise == noise])
            for noise in noises
        ],
        titles={name: title(name, setting) for name in METHODS},
        places=places(rows, lines),
        plates=plates,
        seeds=max(line.runs for line in lines),
        few=all(line.few for line in lines),
        runs=len(rows),
        trials=len(list(METHODS["sam"].trials(setting))),
        tuning=len(TUNING),
        steps=setting.steps(1.0),
        noise=max(noises),
        seconds=sum(float(row["seconds"]) for row in rows.values()),
        versions=[("sharpmin", __version__), ("torch", torch.__version__)],
    )
