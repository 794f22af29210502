"""Reports: `page` is a pure function from verdicts, figures and settings to HTML; `build` computes the figures too.

`datasets.compute` computes the numbers, `figures.draw` the figures, `html.page` the page; all colors are in `_style`.
`papers` writes the same content as LaTeX. `slice_figure` and `layer_bars` draw the results of the probes. `diagnosis_page` is
the page of a watched run, and `Live` a status line for a run in progress.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from . import datasets, figures
from .html import build, page, parts
from .tex import papers

if TYPE_CHECKING:
    from .diagnosis import diagnosis_page
    from .live import Live
    from .slices import layer_bars, slice_figure

__all__ = ["Live", "build", "datasets", "diagnosis_page", "figures", "layer_bars", "page", "papers", "parts", "slice_figure"]

_NEED_TORCH = {"Live": "live", "diagnosis_page": "diagnosis", "layer_bars": "slices", "slice_figure": "slices"}
"""Names with their modules, which are imported on first use: the other reports need no torch."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _NEED_TORCH:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return globals().setdefault(name, getattr(import_module(f".{_NEED_TORCH[name]}", __name__), name))
