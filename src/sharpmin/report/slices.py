"""Figures of the results of probes: the loss along directions, and the shares of the layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sharpmin.core.extras import optional
from sharpmin.diagnostics import LayerShares, LossSlice

from ._style import Key, figure, light, line

if TYPE_CHECKING:
    import plotly.graph_objects as go
else:
    go = optional("plotly.graph_objects", extra="lab")

LOSS = Key("loss", "orange")
OF_E, OF_D = Key("of e", "blue"), Key("of D", "orange")


def slice_figure(found: LossSlice) -> go.Figure:
    """The losses `found` by `loss_slice`: a curve along one direction, contours along two; the dot marks w.

    `.show()` displays the figure, `.write_html("slice.html")` saves it.

    >>> slice_figure(LossSlice(("ascent",), (-0.1, 0.0, 0.1), (0.2, 0.3, 0.5))).data[0].y
    (0.2, 0.3, 0.5)
    """
    names = [f"along the {name}" if name != "a direction of yours" else f"along {name}" for name in found.along]
    middle = len(found.at) // 2
    dot = {"size": 9, "color": light("ink")}
    if len(names) == 1:
        curve = line(found.at, found.losses, LOSS, hovertemplate="%{x:.3g}: loss %{y:.4g}<extra></extra>")
        w = go.Scatter(x=[0.0], y=[found.losses[middle]], mode="markers", marker=dot, hoverinfo="skip")
        return figure([curve, w], x={"title": names[0]}, y={"title": "loss"})
    hill = go.Contour(
        x=found.at, y=found.at, z=list(zip(*found.losses, strict=True)),  # rows are y, the second direction
        colorscale=[[0, light("valley")], [1, light("hill")]], contours={"showlabels": True}, showscale=False, ncontours=16,
        line={"width": 0.8, "color": light("soft")}, hovertemplate="%{x:.3g}, %{y:.3g}: loss %{z:.4g}<extra></extra>",
    )  # fmt: skip
    w = go.Scatter(x=[0.0], y=[0.0], mode="markers", marker=dot, hoverinfo="skip")
    return figure([hill, w], x={"title": names[0]}, y={"title": names[1]})


def layer_bars(found: LayerShares) -> go.Figure:
    """The shares of every parameter in e and in D, `found` by `layer_shares`, with the first parameter on top.

    >>> layer_bars(LayerShares(("weight", "bias"), (64, 1), (0.9, 0.1), (0.8, 0.2))).data[0].x
    (0.9, 0.1)
    """
    bars = [
        go.Bar(
            x=shares, y=found.names, orientation="h", name=key.name, marker={"color": light(key.role)},
            hovertemplate="%{y}: %{x:.1%} " + key.name + "<extra></extra>",
        )
        for key, shares in ((OF_E, found.e), (OF_D, found.d))
    ]  # fmt: skip
    share = {"title": "share", "tickformat": ".0%", "range": [0, 1]}
    drawn = figure(bars, x=share, y={"autorange": "reversed"})
    return drawn.update_layout(
        showlegend=True, legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"}, barmode="group",
        height=120 + 34 * len(found.names), width=640, margin={"t": 40},
    )  # fmt: skip
