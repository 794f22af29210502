"""Reports: `page` is a pure function from verdicts, figures and settings to HTML; `build` computes the figures too.

`datasets.compute` computes the numbers, `figures.draw` the figures, `html.page` the page; all colors are in `_style`.
`papers` writes the same content as LaTeX. `slice_figure` and `layer_bars` draw the results of the probes. `diagnosis_page` is
the page of a watched run, and `Live` a status line for a run in progress.
"""

from . import datasets, figures
from .diagnosis import diagnosis_page
from .html import build, page, parts
from .live import Live
from .slices import layer_bars, slice_figure
from .tex import papers

__all__ = ["Live", "build", "datasets", "diagnosis_page", "figures", "layer_bars", "page", "papers", "parts", "slice_figure"]
