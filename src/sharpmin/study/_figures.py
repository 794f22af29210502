"""The figures of a study, as pure functions of its lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sharpmin.core.extras import optional
from sharpmin.report._style import Key, Plate, figure, light

from ._data import Setting
from ._methods import METHODS
from ._table import Estimate, Line

if TYPE_CHECKING:
    import plotly.graph_objects as go
else:
    go = optional("plotly.graph_objects", extra="lab")

NOISES = {0.0: "clean labels", 0.3: "30 % of the labels drawn anew"}
KEYS = {name: Key(method.title.replace("rho", "ρ"), *method.look) for name, method in METHODS.items()}
LEAST = 1e-8  # a gap that is drawn on a logarithmic axis


def draw(setting: Setting, lines: Sequence[Line]) -> tuple[Plate, ...]:
    """Accuracy against training loss, accuracy with intervals, and the largest eigenvalue with intervals."""
    noises = sorted({line.noise for line in lines})
    keys = tuple(KEYS[name] for name in METHODS if any(line.method == name for line in lines))

    def panels(plot: Any) -> tuple[tuple[str, go.Figure], ...]:
        return tuple((NOISES[noise], plot([line for line in lines if line.noise == noise])) for noise in noises)

    return (
        Plate(
            "trade", "How far, and how good",
            "To the left is closer to the optimum of the training loss, up is better on the test samples. Bars are 95 % "
            "intervals over seeds.",
            (), panels(lambda chosen: trade(setting, chosen)), keys,
        ),
        Plate(
            "accuracy", "Test accuracy", "Mean and 95 % interval over seeds.", (),
            panels(lambda chosen: intervals(chosen, "accuracy", 100, "test accuracy, %")),
        ),
        Plate(
            "eigenvalue", "Largest Hessian eigenvalue",
            "Of the training loss, where the run ended; mean and 95 % interval over seeds. Where every label is fitted "
            "cross-entropy is flat as well, so a small value alone does not mean a flat minimum.",
            (), panels(lambda chosen: intervals(chosen, "eigenvalue", 1, "largest eigenvalue")),
        ),
    )  # fmt: skip


def trade(setting: Setting, lines: Sequence[Line]) -> go.Figure:
    """Test accuracy against the gap to the optimum, a point a method."""
    points = [_point(line) for line in lines if math.isfinite(line.gap.mean) and math.isfinite(line.accuracy.mean)]
    title = "training loss − optimum" if setting.l2 else "training loss (optimum: 0)"
    axis = {"title": title, "type": "log", "dtick": 1, "tickfont": {"size": 11}, "exponentformat": "power"}
    return figure(points, x=axis, y={"title": "test accuracy, %"})


def _point(line: Line) -> Any:
    gap = max(line.gap.mean, LEAST)
    below = min(line.gap.half or 0.0, 0.9 * gap)
    return go.Scatter(
        x=[gap], y=[100 * line.accuracy.mean], name=KEYS[line.method].name, mode="markers", marker=_marker(line),
        error_x=_bar(line, [line.gap.half or 0.0], [below]), error_y=_bar(line, [100 * (line.accuracy.half or 0.0)]),
        hovertemplate="%{x:.3g}, %{y:.1f} %",
    )  # fmt: skip


def intervals(lines: Sequence[Line], quantity: str, scale: float, title: str) -> go.Figure:
    """Means with intervals, a row a method, the first on top."""
    traces = []
    for line in lines:
        value: Estimate = getattr(line, quantity)
        if math.isfinite(value.mean):
            bar = _bar(line, [scale * (value.half or 0.0)])
            traces.append(go.Scatter(
                x=[scale * value.mean], y=[KEYS[line.method].name], name=KEYS[line.method].name, mode="markers",
                marker=_marker(line), error_x=bar, hovertemplate="%{x:.4g}",
            ))  # fmt: skip
    names = [KEYS[line.method].name for line in lines]
    rows = {"type": "category", "categoryorder": "array", "categoryarray": names[::-1], "range": [-0.6, len(names) - 0.4]}
    return figure(traces, x={"title": title}, y=rows)


def _marker(line: Line) -> dict[str, Any]:
    key = KEYS[line.method]
    return {"color": light(key.role), "symbol": key.dash, "size": 11}


def _bar(line: Line, up: list[float], down: list[float] | None = None) -> dict[str, Any]:
    return {
        "type": "data", "symmetric": down is None, "array": up, "arrayminus": down,
        "color": light(KEYS[line.method].role), "thickness": 1.5, "width": 4,
    }  # fmt: skip
