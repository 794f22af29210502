"""The figures, as pure functions from a dataset to a plotly Figure; `draw` makes all of them, each with one sentence."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from sharpmin.core.extras import optional

from . import _kappa_figures as kappa
from ._style import LOOKS, Key, Plate, figure, light, line, log_axis, note
from ._virtual import Virtual
from .datasets import CONSTANT, Datasets, Rate, RhoFloor, Simulation, Trajectories, TwoCycle

if TYPE_CHECKING:
    import numpy as np
    import plotly.graph_objects as go
else:
    np = optional("numpy", extra="lab")
    go = optional("plotly.graph_objects", extra="lab")

RADII = {name: Key(name, *look) for name, look in LOOKS.items()}
F, V = Key("f", "soft"), Key("virtual loss", "orange")
OPTIMUM, REST = Key("minimum of f", "soft", "circle"), Key("where SAM converges", "orange", "diamond")
UPPER, LOWER = Key("upper bounds", "soft", "dash"), Key("lower bound (T2)", "soft", "dot")
MEASURED = {"T1": Key("T1, measured", "orange", "circle"), "T1d": Key("T1d, measured", "blue", "square")}
STEPS = {"title": "step t"}


def draw(data: Datasets) -> tuple[Plate, ...]:
    """All figures, in the order of the report."""
    cycle = data.two_cycle
    starts = tuple(Key(_start(x), role, dash) for x, role, dash in _starts(cycle))
    batch = Key("full batch, constant ρ", "purple", "dashdot")
    radii = tuple(RADII.values())
    return (
        Plate(
            "trajectories",
            "Three radii, one start, f(x, y) = (xy − 1)²",
            "With constant ρ SAM does not converge: it oscillates across the valley, drifts to the flattest minimum, and "
            "f stays above 0; with decaying ρ, or without normalization, it converges to a point of the curve of minima.",
            ("P7",),
            (("Paths", plane(data.trajectories)), ("The loss along them", losses(data.trajectories))),
            radii,
        ),
        Plate(
            "two-cycle",
            "The two-cycle",
            f"From either start the iterates end up alternating between ±r, r = {cycle.radius:.4g}, as C1 says: "
            "r\u00a0=\u00a0lr\u00a0λ\u00a0ρ\u00a0/\u00a0(2\u00a0−\u00a0lr\u00a0λ).",
            ("P1",),
            (("All steps", two_cycle(cycle)), ("The last 40 steps", two_cycle(cycle, last=40))),
            starts,
        ),
        Plate(
            "rates",
            "The rate 1/T², between its bounds",
            "The gap falls with slope −2, as the upper bounds T1 and T1d say, and by the lower bound T2 no constant step size "
            "does better; the distance between the bounds grows with κ = β/μ (see the next figure).",
            ("P1",),
            tuple((f"κ = {r.kappa:g}", rate(r)) for r in data.rates),
            (*MEASURED.values(), UPPER, LOWER),
        ),
        Plate(
            "kappa",
            "The factor κ is needed",
            "On some functions of two variables SAM ends on a two-cycle whose gap is a fixed share of the floor F of T1, up to "
            "nearly all of it, for every κ; on a quadratic that share falls like 1/κ.",
            ("P1",),
            (
                ("The gap that stays, at β lr = 0.1/κ", kappa.shares(data.kappa.shares)),
                (f"KAPPA2, κ = {data.kappa.path.kappa:g}: the path to its two-cycle", kappa.path(data.kappa.path)),
            ),
            (*kappa.LOOKS.values(), kappa.SUPREMUM, kappa.POINTS, kappa.LOOKED, kappa.MINIMUM),
        ),
        Plate(
            "virtual-loss",
            "The virtual loss: what SAM descends on average",
            "The function whose gradient is the mean step of SAM has a minimum where f has none, and SAM converges to it, "
            "without noise (TRAP) and with noise (E1, E3).",
            ("P3", "P4", "P5", "P6"),
            tuple((v.label, virtual(v)) for v in data.virtual),
            (F, V, OPTIMUM, REST),
        ),
        Plate(
            "floors",
            "Floors against ρ",
            "The error that remains with constant ρ grows like ρ²: on logarithmic axes every line has slope 2.",
            ("P4", "P3", "P5"),
            tuple((text, floors(group)) for text, group in _by_error(data.floors)),
        ),
        Plate(
            "simulations",
            "Error against steps on the example functions",
            "With constant ρ the error stops falling on each of the four functions; with decaying ρ, or without normalization, "
            "it falls further from the same start.",
            ("P7", "P3", "P4", "P5"),
            tuple((s.label, simulation(s)) for s in data.simulations),
            radii,
        ),
        Plate(
            "digits",
            "Real data: softmax regression of handwritten digits",
            "m-SAM with constant ρ = 0.5 flattens out where decaying ρ goes on falling with the same step sizes; the full "
            "batch with constant ρ falls fastest, since without noise the strongly convex rate has no floor.",
            ("P7", "P1", "P4"),
            (("Gap over steps", digits(data.digits)),),
            (*radii[:2], batch),
        ),
    )


def plane(data: Trajectories) -> go.Figure:
    """The paths over the contours of log f, with the curve xy = 1 of minima and the start."""
    span_x, span_y = (0.75, 2.75), (0.25, 1.25)
    x, y = np.linspace(*span_x, 90), np.linspace(*span_y, 70)
    height = np.log10((np.outer(y, x) - 1) ** 2 + 1e-3).astype(np.float32)
    hill = go.Contour(
        x=x, y=y, z=height, showscale=False, hoverinfo="skip", ncontours=14, line={"width": 0.6, "color": light("hill")},
        colorscale=[[0, light("valley")], [1, light("hill")]], contours={"coloring": "heatmap"}, opacity=0.7,
    )  # fmt: skip
    valley = np.linspace(1 / span_y[1], 2.75, 100)
    minima = line(valley, 1 / valley, Key("minima, xy = 1", "ink"), width=1.2, hoverinfo="skip")
    paths = [
        line(
            path[:, 0], path[:, 1], RADII[name], width=1.6 if name == CONSTANT else 2.5, hovertemplate="x %{x:.3f}, y %{y:.3f}"
        )
        for name, path in data.paths.items()
    ]
    start, (top_x, top_y) = next(iter(data.paths.values()))[0], (0.87, 1 / 0.87)
    dot = go.Scatter(x=start[:1], y=start[1:], mode="markers", marker={"size": 9, "color": light("ink")}, hoverinfo="skip")
    notes = [note("start", float(start[0]), float(start[1]), role="ink", anchor="right", dx=-9, dy=2),
             note("minima, xy = 1", top_x, top_y, role="ink", dx=10, dy=6)]  # fmt: skip
    across, up = {"title": "x", "range": span_x}, {"title": "y", "range": span_y}
    return figure([hill, minima, *paths, dot], x=across, y=up, notes=notes)


def losses(data: Trajectories) -> go.Figure:
    """f at x_t against t; high values at the start and values below 1e-17 are cut off."""
    curves = [
        line(np.arange(len(v)), np.maximum(v, 1e-17), RADII[name], hovertemplate="t %{x}: %{y:.2e}", width=1.6)
        for name, v in data.values.items()
    ]
    return figure(curves, x=STEPS, y=log_axis("f(x, y)", dtick=4, range=[-16, 0.8]))


def _starts(data: TwoCycle) -> list[tuple[float, str, str]]:
    return [(float(x), *look) for x, look in zip(data.iterates[0], LOOKS.values(), strict=False)]


def _start(x: float) -> str:
    return f"start {x:g}".replace("-", "−")


def two_cycle(data: TwoCycle, last: int | None = None) -> go.Figure:
    """The iterates x_t between the lines +-r; only the last ones if `last` is given."""
    steps = len(data.iterates) - 1
    t, r = np.arange(steps + 1), data.radius
    shown = slice(None) if last is None else slice(steps + 1 - last, None)
    curves = []
    for lane, (x, role, dash) in enumerate(_starts(data)):
        more = {} if last is None else {"mode": "lines+markers", "marker": {"size": 5, "color": light(role)}}
        key = Key(_start(x), role, dash)
        curves.append(line(t[shown], data.iterates[shown, lane], key, width=1.3, hovertemplate="t %{x}: %{y:.5f}", **more))
    ends = t[shown][[0, -1]]
    rails = [line(ends, [v, v], Key("±r", "soft"), width=0.8, hovertemplate="%{y:.6f}") for v in (r, -r)]
    title = {"title": "x<sub>t</sub>"} | ({} if last is None else {"range": [-1.9 * r, 1.9 * r]})
    first = float(ends[0])
    notes = [] if last is None else [note("r", first, r, role="ink", dy=12), note("−r", first, -r, role="ink", dy=-12)]
    return figure([*rails, *curves], x=STEPS, y=title, notes=notes)


def rate(data: Rate) -> go.Figure:
    """Measured gaps as points, bounds as lines, all against T."""
    curves = [line(data.steps, y, Key(UPPER.name, MEASURED[name].role, "dash"), width=1.5,
                   hovertemplate=name + " bound, T %{x}: %{y:.2e}") for name, y in data.upper.items()]  # fmt: skip
    curves.append(line(data.steps, data.lower, LOWER, width=2, hovertemplate="T2 bound, T %{x}: %{y:.2e}"))
    for name, y in data.measured.items():
        key = MEASURED[name]
        curves.append(go.Scatter(
            x=data.steps, y=y, name=key.name, mode="markers", marker={"color": light(key.role), "symbol": key.dash, "size": 8},
            hovertemplate=name + ", T %{x}: %{y:.2e}",
        ))  # fmt: skip
    slope = float(np.polyfit(np.log(data.steps[-5:]), np.log(data.measured["T1d"][-5:]), 1)[0])
    corner = {"xref": "paper", "yref": "paper"}
    notes = [note(f"T1d ends with <b>slope {slope:.2f}</b>".replace("-", "−"), 0.04, 0.07, role="blue") | corner]
    return figure(curves, x=log_axis("steps T"), y=log_axis("gap f(x<sub>T</sub>) − f*", dtick=2), notes=notes)


def virtual(data: Virtual) -> go.Figure:
    """f and the virtual loss, with the minimum of f and the point to which SAM converges."""
    curves = [
        line(data.x, data.value, F, hovertemplate="f(%{x:.2f}) = %{y:.3f}"),
        line(data.x, data.loss, V, width=2.75, hovertemplate="V(%{x:.2f}) = %{y:.3f}"),
    ]
    for at, key, y in ((data.optimum, OPTIMUM, data.value), (data.rest, REST, data.loss)):
        if data.x[0] <= at <= data.x[-1]:
            marker = {"color": light(key.role), "symbol": key.dash, "size": 11, "line": {"color": light("card"), "width": 1.5}}
            points = {"x": [at], "y": [float(np.interp(at, data.x, y))]}
            curves.append(go.Scatter(**points, name=key.name, mode="markers", marker=marker, hovertemplate="%{x:.3f}"))
    low, high = min(data.loss.min(), data.value.min()), min(data.loss.max(), data.value.max())
    return figure(curves, x={"title": "x"}, y={"title": "", "range": [low - 0.08 * (high - low), high]})


def simulation(data: Simulation) -> go.Figure:
    """Error against steps, both logarithmic; values below 1e-16 are cut off."""
    curves = [
        line(c.t, np.where(c.y > 1e-16, c.y, np.nan), RADII[c.name], hovertemplate="t %{x}: %{y:.2e}") for c in data.curves
    ]
    least = min(float(np.min(c.y)) for c in data.curves)
    top = max(float(np.max(c.y)) for c in data.curves)
    bottom = max(math.log10(max(least, 1e-16)), -10.0)
    high = math.log10(top)
    y = log_axis(data.error, dtick=2 if high - bottom > 5 else 1, range=[bottom - 0.3, high + 0.3])
    return figure(curves, x=_time(data), y=y)


def _time(data: Simulation) -> dict[str, Any]:
    """The axis of steps, with room for the last label."""
    return log_axis("step t", range=[0, math.log10(max(c.t[-1] for c in data.curves)) + 0.06])


def _by_error(data: tuple[RhoFloor, ...]) -> list[tuple[str, list[RhoFloor]]]:
    errors = list(dict.fromkeys(f.error for f in data))
    return [(f"The {error} that remains", [f for f in data if f.error == error]) for error in errors]


def floors(data: list[RhoFloor]) -> go.Figure:
    """Floors against rho, each labeled with its name and slope."""
    curves, notes = [], []
    for item, (role, symbol) in zip(data, (("blue", "circle"), ("orange", "square")), strict=False):
        curves.append(line(
            item.rho, item.floor, Key(item.name, role), width=1.75, mode="lines+markers",
            marker={"symbol": symbol, "size": 8, "color": light(role)}, hovertemplate="ρ %{x:.3g}: %{y:.3e}",
        ))  # fmt: skip
        middle = len(item.rho) // 2
        at = math.log10(item.rho[middle]), math.log10(item.floor[middle])
        above = item.floor[middle] == max(other.floor[middle] for other in data)
        text = f"{item.name}<br><b>slope {item.slope:.3f}</b>"
        place: dict[str, Any] = {"anchor": "right", "dx": -12, "dy": 10} if above else {"anchor": "left", "dx": 12, "dy": -14}
        notes.append(note(text, *at, role=role, **place))
    return figure(curves, x=log_axis("ρ"), y=log_axis(data[0].error, dtick=2), notes=notes)


def digits(data: Simulation) -> go.Figure:
    """The gap over steps, both logarithmic."""
    looks: dict[str, Any] = RADII | {c.name: Key(c.name, "purple", "dashdot") for c in data.curves if c.name not in RADII}
    curves = [line(c.t, c.y, looks[c.name], hovertemplate="t %{x}: %{y:.2e}") for c in data.curves]
    return figure(curves, x=_time(data), y=log_axis(data.error))
