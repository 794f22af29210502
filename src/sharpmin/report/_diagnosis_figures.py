"""The figures of a diagnosis, as pure functions of its curves and numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from sharpmin.core.extras import optional
from sharpmin.diagnostics import Floor, Numbers
from sharpmin.diagnostics._run.verdict import SHARE

from ._style import Key, Plate, figure, light, line, log_axis, note
from ._watched import BlockCurve, Share, Watched

if TYPE_CHECKING:
    import plotly.graph_objects as go
else:
    go = optional("plotly.graph_objects", extra="lab")

STEP = "step"
LOSS, MEAN = Key("single steps", "soft"), Key("mean of a block", "orange")
KAPPA, BAND = Key("κ", "orange"), Key("95 % interval", "hill", "square")
BRACKET, PART = Key("bracket, any curvature", "hill", "square"), Key("predicted fall, 95 %", "orange", "circle")
COUNTS = Key("0.5 % of the loss", "blue", "dash")
BIAS, ADDED = Key("ρ's bias", "orange", "square"), Key("noise that ρ adds", "purple", "square")
STAYS = Key("noise that stays", "blue", "square")
CURVATURE, SMOOTHNESS = Key("curvature λ, along g", "orange"), Key("smoothness b, of batches", "blue", "dash")
EDGE = Key("SAM's edge of stability λ*", "purple", "dot")


GRADIENTS = {
    "cosine": (
        "Cosine of the two gradients",
        "where the two gradients have a cosine far below 1, SAM steps in another direction than its base",
        "orange",
    ),
    "lag": ("Cosine of one gradient and the next", "where two successive gradients have −1, the iterates oscillate", "blue"),
    "reach": ("Radius reached, over ρ", "where the weights moved by less than ρ, rounding lost part of e", "green"),
}
"""The curves over single steps: name -> (title, what to see, color)."""


def draw(data: Watched, n: Numbers, floor: Floor | None = None) -> tuple[Plate, ...]:
    """Every figure that the run has data for."""
    plates = [_loss(data), _cancelled(data), _fall(n), _floor(floor), _gradients(data), _curvature(data)]
    return tuple(plate for plate in plates if plate is not None)


def _loss(data: Watched) -> Plate | None:
    if not data.steps["loss"]:
        return None
    sentence = "The verdict is about the shaded window: the newest blocks within which ρ, lr and the loss changed little."
    panels = (("Training loss at w", losses(data)),)
    return Plate("loss", "The loss, and the window", sentence, (), panels, (LOSS, MEAN))


def _cancelled(data: Watched) -> Plate | None:
    if not any(share.clear for share in data.shares):
        return None
    sentence = (
        "κ is the share of the mean gradient that the difference of SAM's two gradients cancels on average: all of it at 1, "
        f"none at 0; below 0 SAM helps. Each point is from the last {data.width} blocks; where the band leaves the frame, they "
        "do not determine κ."
    )
    panels = (("κ of running windows", cancelled(data)),)
    return Plate("cancelled", "How much of the gradient SAM cancels", sentence, (), panels, (KAPPA, BAND))


def _fall(n: Numbers) -> Plate | None:
    if not math.isfinite(n.fall):
        return None
    sentence = (
        f"How far the loss should fall within {n.horizon} steps of ρ = 0: as the mean difference of SAM's two gradients goes "
        "(force), as the noise that it amplifies goes (noise), and both; a fall counts from 0.5 % of the loss on."
    )
    keys = (PART, BRACKET, *((COUNTS,) if n.loss is not None and n.loss > 0 else ()))
    return Plate("fall", "What ρ = 0 would gain", sentence, (), (("Fall of the training loss", fall(n)),), keys)


def _floor(floor: Floor | None) -> Plate | None:
    if floor is None:
        return None
    bound = "" if floor.replacement else "; the noise parts are upper bounds, since sampling with replacement was not declared"
    sentence = f"Estimated parts of the gap to the optimum, with the bracket of the bias{bound}."
    panels = (("Gap f − f*", gap(floor)),)
    return Plate("floor", "Bias against noise", sentence, (), panels, (BIAS, ADDED, STAYS))


def _gradients(data: Watched) -> Plate | None:
    there = [name for name in GRADIENTS if data.steps[name]]
    sentence = "; ".join(GRADIENTS[name][1] for name in there) + "."
    panels = tuple((GRADIENTS[name][0], steady(data, name)) for name in there)
    return (
        Plate("gradients", "The two gradients of a step", sentence[:1].upper() + sentence[1:], (), panels) if panels else None
    )


def _curvature(data: Watched) -> Plate | None:
    panels = []
    if data.blocks["curvature"] or data.blocks["smoothness"]:
        panels.append(("From the difference of the two gradients", bends(data)))
    if data.blocks["bounce"]:
        panels.append(("Bounce, 2 on a two-cycle", bounce(data)))
    edge = (EDGE,) if data.blocks["edge of stability"] else ()
    sentence = (
        f"Means over blocks. {'Above λ*, SAM is unstable along an eigenvector. ' if edge else ''}b is the smoothness of "
        "minibatch losses, several times that of the loss. Neither λ nor b alone is a sign of trouble."
    )
    keys = (CURVATURE, *edge, SMOOTHNESS)
    return Plate("curvature", "Curvature", sentence, (), tuple(panels), keys) if panels else None


def losses(data: Watched) -> go.Figure:
    """The loss of single steps and of blocks, with the window shaded."""
    steps, blocks = data.steps["loss"], data.blocks["loss"]
    curves = [_over(steps, LOSS, width=1.2)]
    if blocks:
        curves.append(_over(blocks, MEAN))
    return _marked(data, curves, _axis([*steps.y, *blocks.y], ""), told=True)


def cancelled(data: Watched) -> go.Figure:
    """kappa of running windows with its intervals, on an axis from about 0 to 1; wide intervals are cut off."""
    inside = [share.value for share in data.shares if share.clear and share.value is not None]
    frame, x = _padded([*inside, -0.5, 1.5]), [share.x for share in data.shares]
    y = [None if share.value is None else _near(share.value, frame) for share in data.shares]
    curves = [_rail(x[0], x[-1], level) for level in (0.0, 1.0)]
    curves += [_band(stretch, frame) for stretch in _stretches(data.shares)]
    dots, text = {"size": 5, "color": light(KAPPA.role)}, "step %{x}: κ %{customdata:.3f}"
    values = [share.value for share in data.shares]
    curves.append(line(x, y, KAPPA, mode="lines+markers", marker=dots, customdata=values, hovertemplate=text))
    return _marked(data, curves, {"title": "", "range": frame}, told=True)


def _stretches(shares: Sequence[Share]) -> list[list[Share]]:
    """Runs of consecutive windows that have an interval."""
    out: list[list[Share]] = [[]]
    for share in shares:
        if share.interval is None or not all(map(math.isfinite, share.interval)):
            out.append([])
        else:
            out[-1].append(share)
    return [stretch for stretch in out if stretch]


def fall(n: Numbers) -> go.Figure:
    """The parts of the predicted fall and their sum, against the threshold; a wide bracket is cut off."""
    names, values = ["both", "noise", "force"], [n.fall, n.relief, n.drop]
    least = SHARE * n.loss if n.loss is not None and n.loss > 0 else None
    inner = [0.0, *values, *([] if least is None else [least])]
    around = {0: n.fall_interval, 2: n.drop_interval}
    far = 4 * max(map(abs, inner))
    low, high = _padded([*inner, *(v for ends in around.values() for v in ends if math.isfinite(v) and abs(v) < far)])
    ends = sorted((n.lower, n.upper))
    start, end = (_near(v, [low, high]) for v in ends)
    bar = go.Bar(
        x=[end - start], base=[start], y=[2], width=0.34, orientation="h", name=BRACKET.name,
        marker={"color": light(BRACKET.role)}, hovertemplate=f"{ends[0]:.3g} to {ends[1]:.3g}",
    )  # fmt: skip
    points = [
        go.Scatter(
            x=[value], y=[at], name=PART.name, mode="markers", hovertemplate="%{x:.3g}",
            error_x=_error(value, around.get(at), [low, high]),
            marker={"size": 10 if at else 13, "symbol": "circle" if at else "diamond", "color": light(PART.role)},
        )
        for at, value in enumerate(values)
    ]  # fmt: skip
    curves = [_upright(0.0, Key("", "line"), 1.0), bar]
    if least is not None:
        curves.append(_upright(least, COUNTS, 2.0))
    told = f"bracket {ends[0]:.2g} to {ends[1]:.2g}".replace("-", "−")
    notes = [] if low <= ends[0] and ends[1] <= high else [note(told, low, 2.42, dx=4)]
    across = {"title": "fall of the loss", "range": [low, high], "nticks": 6}
    up = {"title": "", "range": [-0.6, 2.7], "tickvals": [0, 1, 2], "ticktext": names, "showgrid": False}
    return figure([*curves, *points], x=across, y=up, notes=notes)


def _error(value: float, interval: tuple[float, float] | None, frame: Sequence[float]) -> dict[str, Any] | None:
    """The interval around a value, if it has one."""
    if interval is None or not all(map(math.isfinite, interval)):
        return None
    below, above = value - _near(interval[0], frame), _near(interval[1], frame) - value
    return {"array": [above], "arrayminus": [below], "color": light(PART.role), "thickness": 2, "width": 6}


def gap(floor: Floor) -> go.Figure:
    """The gap, divided into the part that rho = 0 would remove and the rest."""
    parts = ((BIAS, "with ρ", floor.bias), (ADDED, "with ρ", floor.of_rho - floor.bias), (STAYS, "noise", floor.of_noise))
    bars = [
        go.Bar(x=[value], y=[at], orientation="h", name=key.name, width=0.5, marker={"color": light(key.role)},
               hovertemplate=f"{key.name}: %{{x:.3g}}")
        for key, at, value in parts
    ]  # fmt: skip
    most = max(floor.of_rho, floor.of_noise)
    top = 1.15 * max(most, min(floor.bias_high, 3 * most)) or 1.0
    bars[0].error_x = {
        "array": [_near(floor.bias_high, [0, top]) - floor.bias], "arrayminus": [floor.bias - floor.bias_low],
        "color": light("ink"), "thickness": 1.5, "width": 6,
    }  # fmt: skip
    out = figure(bars, x={"title": "part of the gap", "range": [0, top], "nticks": 6}, y={"title": "", "showgrid": False})
    return out.update_layout(barmode="stack", yaxis_categoryarray=["noise", "with ρ"], yaxis_categoryorder="array")


def steady(data: Watched, name: str) -> go.Figure:
    """One quantity at every step."""
    curve, role = data.steps[name], GRADIENTS[name][2]
    points = {"mode": "markers", "marker": {"size": 3, "color": light(role), "opacity": 0.6}}
    return _marked(data, [_over(curve, Key(name, role), **points)], {"title": "", "range": _padded(curve.y)})


def bends(data: Watched) -> go.Figure:
    """Curvature and smoothness of blocks, and for SGD the edge of stability."""
    found = [
        (data.blocks[name], key)
        for name, key in (("smoothness", SMOOTHNESS), ("edge of stability", EDGE), ("curvature", CURVATURE))
    ]
    curves = [_over(curve, key) for curve, key in found if curve]
    return _marked(data, curves, _axis([v for curve, _ in found for v in curve.y], ""))


def bounce(data: Watched) -> go.Figure:
    """S of blocks, and the 2 of a two-cycle."""
    curve = data.blocks["bounce"]
    rail = _rail(curve.x[0], curve.x[-1], 2.0)
    return _marked(data, [rail, _over(curve, Key("bounce", "purple"))], {"title": "", "range": _padded([*curve.y, 0.0, 2.0])})


def _over(curve: BlockCurve, key: Key, **more: Any) -> Any:
    each = f" (mean of {curve.each})" if curve.each > 1 else ""
    if len(curve.x) == 1:
        more = {"mode": "markers", "marker": {"size": 6, "color": light(key.role)}} | more
    return line(list(curve.x), list(curve.y), key, hovertemplate=f"step %{{x}}{each}: %{{y:.4g}}", **more)


def _rail(left: float, right: float, level: float) -> Any:
    return line([left, right], [level, level], Key("", "soft", "dot"), width=1, hoverinfo="skip")


def _upright(x: float, key: Key, width: float) -> Any:
    return line([x, x], [-0.6, 2.7], key, width=width, hovertemplate="%{x:.3g}")


def _band(stretch: Sequence[Share], frame: Sequence[float]) -> Any:
    x = [share.x for share in stretch]
    low, high = ([_near(share.interval[i], frame) for share in stretch if share.interval is not None] for i in (0, 1))
    return go.Scatter(
        x=[*x, *reversed(x)], y=[*high, *reversed(low)], name=BAND.name, mode="lines", fill="toself",
        fillcolor=light(BAND.role), opacity=0.45, line={"width": 0}, hoverinfo="skip",
    )  # fmt: skip


def _marked(data: Watched, curves: list[Any], y: dict[str, Any], *, told: bool = False) -> go.Figure:
    """Curves over steps with the window shaded, and lines where rho or the learning rate changed, in words if `told`."""
    out = figure(curves, x={"title": STEP, "nticks": 6, "exponentformat": "none"}, y=y)
    low, high = data.span
    out.add_shape(
        type="rect",
        x0=low,
        x1=high,
        y0=0,
        y1=1,
        yref="paper",
        layer="below",
        line_width=0,
        fillcolor=light("hill"),
        opacity=0.22,
    )
    for i, (at, text) in enumerate(data.changes):
        out.add_shape(
            type="line", x0=at, x1=at, y0=0, y1=1, yref="paper", line={"color": light("soft"), "width": 1, "dash": "dot"}
        )
        if told:
            out.add_annotation(note(text, at, 0.96 - 0.08 * i, anchor="right", dx=-4) | {"yref": "paper"})
    return out


def _axis(values: Iterable[float], title: str) -> dict[str, Any]:
    """An axis, logarithmic if positive values span more than a factor of 20."""
    known = list(values)
    if known and min(known) > 0 and max(known) > 20 * min(known):
        return log_axis(title)
    return {"title": title, "range": _padded(known), "nticks": 7}


def _padded(values: Iterable[float]) -> list[float]:
    """A range around the values, wide enough that rounding errors do not fill it."""
    known = list(values) or [0.0]
    low, high = min(known), max(known)
    room = max(0.08 * (high - low), 0.02 * max(abs(low), abs(high))) or 1.0
    return [low - room, high + room]


def _near(value: float, frame: Sequence[float]) -> float:
    """The value, moved to at most one width outside of the frame, since browsers cannot draw to 1e200."""
    low, high = frame
    return min(max(value, 2 * low - high), 2 * high - low)
