"""The figures of a study, as pure functions of its lines."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
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
ACCURACY = {"title": "test accuracy, %", "minallowed": 0, "maxallowed": 100}
"""An axis that ends at 0 and at 100 %, whatever is drawn and however it is zoomed."""


def draw(setting: Setting, lines: Sequence[Line]) -> tuple[Plate, ...]:
    """Accuracy against training loss, accuracy, and largest eigenvalue: means with intervals, or runs where seeds are few."""
    noises = sorted({line.noise for line in lines})
    keys = tuple(KEYS[name] for name in METHODS if any(line.method == name for line in lines))

    def panels(plot: Any) -> tuple[tuple[str, go.Figure], ...]:
        return tuple((NOISES[noise], plot([line for line in lines if line.noise == noise])) for noise in noises)

    few = all(line.few for line in lines)
    bars = "A mark is a run, a line the mean of several." if few else "Mean and 95 % interval over seeds."
    return (
        Plate(
            "trade", "How far, and how good",
            "To the left is closer to the optimum of the training loss, up is better on the test samples. "
            + ("A mark is a run." if few else "Bars are 95 % intervals over seeds."),
            (), panels(lambda chosen: trade(setting, chosen)), keys,
        ),
        Plate("accuracy", "Test accuracy", bars, (), panels(lambda chosen: spread(chosen, "accuracy", ACCURACY, 100))),
        Plate(
            "eigenvalue", "Largest Hessian eigenvalue",
            f"Of the training loss, where the run ended. {bars} Where every label is fitted "
            "cross-entropy is flat as well, so a small value alone does not mean a flat minimum.",
            (), panels(lambda chosen: spread(chosen, "eigenvalue", {"title": "largest eigenvalue"})),
        ),
    )  # fmt: skip


def trade(setting: Setting, lines: Sequence[Line]) -> go.Figure:
    """Test accuracy against the gap to the optimum: a point a method, or a run where seeds are few."""
    title = "training loss − optimum" if setting.l2 else "training loss (optimum: 0)"
    axis = {"title": title, "type": "log", "dtick": 1, "tickfont": {"size": 11}, "exponentformat": "power"}
    return figure([trace for line in lines for trace in (_runs(line) if line.few else _mean(line))], x=axis, y=ACCURACY)


def _runs(line: Line) -> Iterator[Any]:
    both = zip(line.gap.values, line.accuracy.values, strict=True)
    points = [(max(gap, LEAST), 100 * accuracy) for gap, accuracy in both if gap is not None and accuracy is not None]
    if points:
        yield _marks(line, *map(list, zip(*points, strict=True)), hovertemplate="%{x:.3g}, %{y:.1f} %")


def _mean(line: Line) -> Iterator[Any]:
    if not (math.isfinite(line.gap.mean) and math.isfinite(line.accuracy.mean)):
        return
    gap = max(line.gap.mean, LEAST)
    below = min(line.gap.half or 0.0, 0.9 * gap)
    across, up = _bar(line, line.gap.half or 0.0, below), _percent_bar(line)
    accuracy = 100 * line.accuracy.mean
    yield _marks(line, [gap], [accuracy], error_x=across, error_y=up, hovertemplate="%{x:.3g}, %{y:.1f} %")


def spread(lines: Sequence[Line], quantity: str, axis: dict[str, Any], scale: float = 1) -> go.Figure:
    """A row a method, the first on top: the mean with its interval, or the runs and their mean where seeds are few."""
    traces = []
    for line in lines:
        value: Estimate = getattr(line, quantity)
        name, middle = KEYS[line.method].name, [scale * value.mean] if math.isfinite(value.mean) else []
        if line.few:
            each = [scale * v for v in value.values if v is not None]
            traces.append(_marks(line, each, [name] * len(each), hovertemplate="%{x:.4g}"))
            if middle and line.runs > 1:
                traces.append(_marks(line, middle, [name], symbol="line-ns-open", hovertemplate="mean %{x:.4g}"))
        elif middle:
            bar = _percent_bar(line) if quantity == "accuracy" else _bar(line, scale * (value.half or 0.0))
            traces.append(_marks(line, middle, [name], error_x=bar, hovertemplate="%{x:.4g}"))
    names = [KEYS[line.method].name for line in lines]
    rows = {"type": "category", "categoryorder": "array", "categoryarray": names[::-1], "range": [-0.6, len(names) - 0.4]}
    return figure(traces, x=axis, y=rows)


def _marks(line: Line, x: list[Any], y: list[Any], *, symbol: str = "", **more: Any) -> Any:
    """In the look of the method; a mark at the end of an axis is not cut in half, and marks that overlap stay apart."""
    key = KEYS[line.method]
    edge = {"width": 2} if symbol else {"width": 1, "color": light("card")}
    marker = {"color": light(key.role), "symbol": symbol or key.dash, "size": 20 if symbol else 11, "line": edge}
    return go.Scatter(x=x, y=y, name=key.name, mode="markers", marker=marker, cliponaxis=False, **more)


def _percent_bar(line: Line) -> dict[str, Any]:
    """The interval of the accuracy, as far as it lies within 0 and 100 %."""
    mean, half = line.accuracy.mean, line.accuracy.half or 0.0
    return _bar(line, 100 * min(half, 1 - mean), 100 * min(half, mean))


def _bar(line: Line, up: float, down: float | None = None) -> dict[str, Any]:
    return {
        "type": "data", "symmetric": down is None, "array": [up], "arrayminus": None if down is None else [down],
        "color": light(KEYS[line.method].role), "thickness": 1.5, "width": 4,
    }  # fmt: skip
