"""The figures of a study, as pure functions of its rows and lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sharpmin.core.extras import optional
from sharpmin.report._style import Key, Plate, figure, light

from ._estimate import Estimate
from ._frontier import places
from ._methods import METHODS, title
from ._settings import Setting
from ._table import Line
from ._trials import Rows, tried

if TYPE_CHECKING:
    import plotly.graph_objects as go
else:
    go = optional("plotly.graph_objects", extra="lab")

ACCURACY = {"title": "test accuracy, %", "minallowed": 0, "maxallowed": 100}
"""An axis that ends at 0 and at 100 %, whatever is drawn and however it is zoomed."""
APART = 0.035
"""The distance at which methods of equal passes are drawn."""
TUNED = ("sam", "clipped", "every-3")
"""The methods whose grids of rho are drawn."""


def caption(noise: float) -> str:
    """The caption of the panel for a share of noisy labels."""
    return f"{noise:.0%} label noise".replace("%", " %") if noise else "clean labels"


def key(setting: Setting, method: str) -> Key:
    """Name and look of a method."""
    return Key(title(method, setting).replace("rho", "ρ"), *METHODS[method].look)


def draw(setting: Setting, rows: Rows, lines: Sequence[Line]) -> tuple[Plate, ...]:
    """Accuracy against passes, gains over the best base, and validation accuracy over rho."""
    noises = sorted({line.noise for line in lines})
    few = all(line.few for line in lines)
    bars = "Each mark is one run." if few else "Mean and 95 % interval over seeds."

    def panels(plot: Any) -> tuple[tuple[str, go.Figure], ...]:
        return tuple((caption(noise), plot([line for line in lines if line.noise == noise])) for noise in noises)

    keys = [key(setting, line.method) for line in lines if line.noise == noises[0] and not line.method.startswith("base-")]
    return (
        Plate(
            "frontier", "What accuracy costs",
            "Further left is cheaper, further up is better. The line joins the methods that no other beats with as few passes; "
            f"gray squares are the base optimizer at its lengths; methods of equal passes are drawn side by side. {bars}",
            (), panels(lambda own: frontier(setting, rows, own)), tuple(keys),
        ),
        Plate(
            "gain", "Gain over the base at its best length",
            f"Differences for each seed, with equal labels, initial weights and batches, in points of test accuracy. {bars}",
            (), panels(lambda own: gains(setting, own)),
        ),
        Plate(
            "rho", "Validation accuracy over ρ",
            "At the best learning rate for each ρ. Marks are trials, lines their means.",
            (), panels(lambda own: radii(setting, rows, own)),
            tuple(key(setting, name) for name in TUNED if any(line.method == name for line in lines)),
        ),
    )  # fmt: skip


def frontier(setting: Setting, rows: Rows, lines: Sequence[Line]) -> go.Figure:
    """Test accuracy against passes: a point for each method, or each run where seeds are few, and the frontier."""
    where = places(rows, lines)
    front = sorted((line.passes, 100 * line.accuracy.mean) for line in lines if where[line.method, line.noise].by is None)
    stairs_line = {"color": light("soft"), "width": 1.5, "shape": "hv"}
    stairs = go.Scatter(x=[x for x, _ in front], y=[y for _, y in front], mode="lines", line=stairs_line, hoverinfo="skip")
    beside = _beside(lines)
    points = [trace for line in lines for trace in _point(setting, line, beside[line.method])]
    axis = {"title": f"passes, in units of {setting.base_name}'s", "rangemode": "tozero"}
    return figure([stairs, *points], x=axis, y=ACCURACY)


def _beside(lines: Sequence[Line]) -> dict[str, float]:
    """Where to draw each method: those of equal passes side by side, around their passes."""
    equal: dict[float, list[Line]] = {}
    for line in lines:
        equal.setdefault(round(line.passes, 1), []).append(line)
    return {
        line.method: line.passes + APART * (at - (len(own) - 1) / 2) for own in equal.values() for at, line in enumerate(own)
    }


def _point(setting: Setting, line: Line, x: float) -> list[Any]:
    hover = {"hovertemplate": f"{line.passes:.3g} x the passes, %{{y:.1f}} %"}
    if line.few:
        each = [100 * v for v in line.accuracy.values if v is not None]
        return [_marks(setting, line, [x] * len(each), each, **hover)]
    bar = _percent_bar(line)
    return [_marks(setting, line, [x], [100 * line.accuracy.mean], error_y=bar, **hover)]


def gains(setting: Setting, lines: Sequence[Line]) -> go.Figure:
    """A row for each method: the mean gain with its interval, or the runs and their mean where seeds are few."""
    traces = []
    for line in lines:
        value: Estimate = line.gain
        name, middle = key(setting, line.method).name, 100 * value.mean
        if line.few:
            each = [100 * v for v in value.values if v is not None]
            traces.append(_marks(setting, line, each, [name] * len(each), hovertemplate="%{x:.4g}"))
            if line.runs > 1:
                traces.append(_marks(setting, line, [middle], [name], symbol="line-ns-open", hovertemplate="mean %{x:.4g}"))
        else:
            bar = _bar(line, 100 * (value.half or 0.0))
            traces.append(_marks(setting, line, [middle], [name], error_x=bar, hovertemplate="%{x:.4g}"))
    names = [key(setting, line.method).name for line in lines]
    categories = {"type": "category", "categoryorder": "array", "categoryarray": names[::-1], "range": [-0.6, len(names) - 0.4]}
    return figure(
        traces, x={"title": "points of test accuracy", "zeroline": True, "zerolinecolor": light("line")}, y=categories
    )


def radii(setting: Setting, rows: Rows, lines: Sequence[Line]) -> go.Figure:
    """Validation accuracy of the trials over rho, each at the learning rate that is best for it."""
    traces = []
    for line in (line for line in lines if line.method in TUNED):
        best = _best_trials(rows, line)
        x = [rho for rho, values in best.items() for _ in values]
        y = [v for values in best.values() for v in values]
        traces.append(_marks(setting, line, x, y, hovertemplate="%{x}, %{y:.1f} %"))
        means = [sum(values) / len(values) for values in best.values()]
        stroke = {"color": light(METHODS[line.method].look[0]), "width": 1.5}
        traces.append(go.Scatter(x=list(best), y=means, mode="lines", line=stroke, hoverinfo="skip"))
    ticks = sorted({x for trace in traces for x in trace.x})
    axis = {"title": "ρ", "type": "log", "tickvals": ticks, "ticktext": [f"{rho:g}" for rho in ticks]}
    return figure(traces, x=axis, y=ACCURACY | {"title": "validation accuracy, %"})


def _best_trials(rows: Rows, line: Line) -> dict[float, list[float]]:
    """rho -> the validation accuracies of its trials, in percent, at the learning rate with the best mean."""
    trials: dict[float, dict[float, list[float]]] = {}
    for cell, row in tried(rows, line.method, line.noise).items():
        trials.setdefault(cell.rho, {}).setdefault(cell.lr, []).append(100 * row["validation"])
    return {rho: max(by_lr.values(), key=lambda v: sum(v) / len(v)) for rho, by_lr in sorted(trials.items())}


def _marks(setting: Setting, line: Line, x: list[Any], y: list[Any], *, symbol: str = "", **more: Any) -> Any:
    """In the look of the method; a mark at the end of an axis is not cut in half, and marks that overlap stay apart."""
    look = key(setting, line.method)
    edge = {"width": 2} if symbol else {"width": 1, "color": light("card")}
    marker = {"color": light(look.role), "symbol": symbol or look.dash, "size": 20 if symbol else 11, "line": edge}
    return go.Scatter(x=x, y=y, name=look.name, mode="markers", marker=marker, cliponaxis=False, **more)


def _percent_bar(line: Line) -> dict[str, Any]:
    """The interval of the accuracy, as far as it lies within 0 and 100 %."""
    mean, half = line.accuracy.mean, line.accuracy.half or 0.0
    return _bar(line, 100 * min(half, 1 - mean), 100 * min(half, mean))


def _bar(line: Line, up: float, down: float | None = None) -> dict[str, Any]:
    return {
        "type": "data", "symmetric": down is None, "array": [up], "arrayminus": None if down is None else [down],
        "color": light(METHODS[line.method].look[0]), "thickness": 1.5, "width": 4,
    }  # fmt: skip
