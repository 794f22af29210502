"""Reports: `page` is a pure function from verdicts, figures and settings to HTML; `build` computes the figures too.

`datasets.compute` makes the numbers, `figures.draw` the figures, `html.page` the page; `_style` holds every colour.
`papers` makes LaTeX of the same things. `slice_figure` and `layer_bars` draw what the probes found. `diagnosis_page` is the
page of a watched run, and `Live` the line that shows one while it goes on.
"""

from . import datasets, figures
from .diagnosis import diagnosis_page
from .html import build, page, parts
from .live import Live
from .slices import layer_bars, slice_figure
from .tex import papers

__all__ = ["Live", "build", "datasets", "diagnosis_page", "figures", "layer_bars", "page", "papers", "parts", "slice_figure"]
