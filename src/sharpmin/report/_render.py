"""Render a template to one HTML file that loads nothing from elsewhere."""

from __future__ import annotations

import base64
import gzip
import html
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from sharpmin.core.extras import optional

from . import _view
from ._markup import pretty
from ._style import PALETTE, Plate

if TYPE_CHECKING:
    import jinja2
    import markupsafe
    from plotly import offline
else:
    jinja2 = optional("jinja2", extra="cli")
    markupsafe = optional("markupsafe", extra="cli")
    offline = optional("plotly.offline", extra="lab")


def render(template: str, figures: Sequence[Plate], **values: Any) -> str:
    """The page as HTML; plotly is embedded, compressed, if there are figures."""
    plotly = markupsafe.Markup(_plotly()) if figures else ""
    return _environment().get_template(template).render(plotly=plotly, palette=PALETTE, **values)


@lru_cache(maxsize=1)
def _plotly() -> str:
    """Plotly as base64 of gzip, which `page.js` unpacks: 2.0 MB in place of 4.8; pip brings no smaller bundle."""
    return base64.b64encode(gzip.compress(offline.get_plotlyjs().encode(), mtime=0)).decode()


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    """The environment of this package's templates; values are escaped unless marked as HTML."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    environment.filters["number"] = lambda value, digits=4: markupsafe.Markup(_view.number(value, digits))
    environment.filters["figure"] = lambda figure: markupsafe.Markup(figure.to_json().replace("<", "\\u003c"))
    environment.filters["pretty"] = lambda text: markupsafe.Markup(pretty(html.escape(str(text))))
    environment.filters["relation"] = lambda sign: _view.RELATIONS.get(sign, sign)
    return environment


def _template(name: str) -> str | None:
    file = resources.files(__package__).joinpath("templates", name)
    return file.read_text(encoding="utf-8") if file.is_file() else None
