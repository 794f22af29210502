"""Colors and the layout that all figures share. Every color is defined once, as a pair for light and for dark.

Figures contain the light colors; the page replaces them, string by string, if the reader's system is dark. The hues are
those of Okabe & Ito, which color-blind readers can tell apart, and every series also has its own dash.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sharpmin.core.extras import optional

from .datasets import CONSTANT, DECAYING, RAW

if TYPE_CHECKING:
    import plotly.graph_objects as go
else:
    go = optional("plotly.graph_objects", extra="lab")

PALETTE = {
    "page": ("#fbfaf8", "#14171c"),
    "card": ("#ffffff", "#1b1f26"),
    "ink": ("#1d2127", "#e7e9ec"),
    "soft": ("#555c66", "#a7afba"),
    "line": ("#dddbd6", "#333944"),
    "grid": ("#eceae5", "#2a2f38"),
    "orange": ("#c44e00", "#ff9f5a"),
    "blue": ("#0068a8", "#62b4f5"),
    "green": ("#007a5a", "#3ecfa4"),
    "purple": ("#94407f", "#dc9ccd"),
    "valley": ("#f6f8fa", "#1d232b"),
    "hill": ("#9fb2c6", "#56677c"),
}
"""Role -> (color in light mode, in dark mode)."""

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'Liberation Sans', Arial, sans-serif"

LOOKS = {CONSTANT: ("orange", "solid"), DECAYING: ("blue", "dash"), RAW: ("green", "dot")}
"""The color and dash of each radius, the same in every figure."""


def light(role: str) -> str:
    """The light color of a role; the page replaces it by the dark one."""
    return PALETTE[role][0]


@dataclass(frozen=True)
class Key:
    """An entry of the legend: a name, the role of its color, its dash."""

    name: str
    role: str
    dash: str = "solid"


@dataclass(frozen=True)
class Plate:
    """A figure of the report: panels that share a legend and one sentence that says what to see.

    Attributes:
        id: the anchor on the page.
        title: a few words.
        sentence: what to see.
        claims: the claims that it illustrates; it is shown with the first.
        panels: pairs of caption and figure.
        keys: the legend.
    """

    id: str
    title: str
    sentence: str
    claims: tuple[str, ...]
    panels: tuple[tuple[str, go.Figure], ...]
    keys: tuple[Key, ...] = field(default=())


def line(x: Any, y: Any, key: Key, *, width: float = 2.25, **more: Any) -> Any:
    """A curve with the color and dash of `key`."""
    return go.Scatter(
        x=x, y=y, name=key.name, mode=more.pop("mode", "lines"),
        line={"color": light(key.role), "dash": key.dash, "width": width}, **more,
    )  # fmt: skip


def note(
    text: str, x: float, y: float, *, role: str = "soft", anchor: str = "left", dy: float = 0, dx: float = 0
) -> dict[str, Any]:
    """A text at a point of a figure; on logarithmic axes x and y are exponents."""
    return {
        "text": text, "x": x, "y": y, "showarrow": False, "xanchor": anchor, "yanchor": "middle",
        "yshift": dy, "xshift": dx, "font": {"color": light(role), "size": 13},
    }  # fmt: skip


def figure(traces: list[Any], *, x: dict[str, Any], y: dict[str, Any], notes: list[dict[str, Any]] | None = None) -> go.Figure:
    """A figure in the report's style: transparent, without legend or title."""
    axis = {
        "gridcolor": light("grid"), "linecolor": light("line"), "tickcolor": light("line"), "zeroline": False, "showline": True,
        "ticks": "outside", "ticklen": 4, "automargin": True, "exponentformat": "power", "fixedrange": False,
    }  # fmt: skip
    titles = [{"title": {"text": item.get("title", ""), "standoff": 8}} for item in (x, y)]
    return go.Figure(
        data=traces,
        layout={
            "template": "none",
            "showlegend": False,
            "margin": {"l": 8, "r": 14, "t": 10, "b": 8},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"family": FONT, "size": 13, "color": light("soft")},
            "hoverlabel": {
                "bgcolor": light("card"), "bordercolor": light("line"), "font": {"family": FONT, "color": light("ink")},
            },
            "xaxis": axis | x | titles[0],
            "yaxis": axis | y | titles[1],
            "annotations": notes or [],
        },
    )  # fmt: skip


def log_axis(title: str, **more: Any) -> dict[str, Any]:
    """A logarithmic axis with a label at every decade (plotly enlarges labels with an exponent, hence the small font)."""
    return {"title": title, "type": "log", "dtick": 1, "tickfont": {"size": 11}, "minor": {"showgrid": False}} | more
