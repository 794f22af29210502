"""The two panels on kappa: shares of F against kappa, and the path to the two-cycle of KAPPA2."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sharpmin.core.extras import optional

from ._kappa import Path, Shares
from ._style import Key, figure, light, line, log_axis

if TYPE_CHECKING:
    import numpy as np
    import plotly.graph_objects as go
else:
    np = optional("numpy", extra="lab")
    go = optional("plotly.graph_objects", extra="lab")

LOOKS = {
    "quadratic (C1)": Key("quadratic (C1)", "soft", "dot"),
    "wedge": Key("wedge", "green", "dash"),
    "KAPPA2": Key("KAPPA2", "orange"),
}
SUPREMUM = Key("supremum over the family of KAPPA2, lr → 0", "purple", "dashdot")
POINTS, LOOKED = Key("iterates", "orange"), Key("perturbed points", "blue", "circle")
MINIMUM = Key("minimum", "ink", "diamond")


def shares(data: Shares) -> go.Figure:
    """Gap over F against kappa, both logarithmic."""
    curves = [
        line(data.kappa, y, LOOKS[name], mode="lines+markers", marker={"size": 6, "color": light(LOOKS[name].role)},
             hovertemplate=name + ", κ %{x:.3g}: %{y:.3g}") for name, y in data.measured.items()
    ]  # fmt: skip
    curves.append(line(data.kappa, data.supremum, SUPREMUM, hovertemplate="supremum, κ %{x:.3g}: %{y:.3f}"))
    return figure(curves, x=log_axis("κ = β/μ"), y=log_axis("gap over F", range=[-5.8, 0.2]))


def path(data: Path) -> go.Figure:
    """The iterates over the contours of f, the points at which SAM takes its gradients, and the minimum."""
    hill = go.Contour(
        x=data.across, y=data.up, z=np.sqrt(data.height).astype(np.float32), showscale=False, hoverinfo="skip", ncontours=16,
        line={"width": 0.6, "color": light("hill")}, colorscale=[[0, light("valley")], [1, light("hill")]],
        contours={"coloring": "heatmap"}, opacity=0.7,
    )  # fmt: skip
    looked = go.Scatter(
        x=data.y[:, 0], y=data.y[:, 1], name=LOOKED.name, mode="markers", hovertemplate="y %{x:.3f}, %{y:.3f}",
        marker={"size": 4, "color": light(LOOKED.role), "symbol": LOOKED.dash},
    )  # fmt: skip
    least = go.Scatter(
        x=data.minimizer[:1], y=data.minimizer[1:], name=MINIMUM.name, mode="markers", hovertemplate="minimum %{x:.3f}",
        marker={"size": 11, "color": light(MINIMUM.role), "symbol": MINIMUM.dash},
    )  # fmt: skip
    steps = line(data.x[:, 0], data.x[:, 1], POINTS, width=1.4, hovertemplate="x %{x:.3f}, %{y:.3f}")
    across, up = {"title": "z<sub>1</sub>", "range": [-0.85, 0.85]}, {"title": "z<sub>2</sub>", "range": [-1.1, 1.1]}
    return figure([hill, looked, steps, least], x=across, y=up)
