"""Reports: `page` is a pure function from verdicts, figures and settings to HTML; `build` computes the figures too.

`datasets.compute` makes the numbers, `figures.draw` the figures, `html.page` the page; `_style` holds every colour.
"""

from . import datasets, figures
from .html import build, page

__all__ = ["build", "datasets", "figures", "page"]
