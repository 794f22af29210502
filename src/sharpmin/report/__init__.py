"""Reports: pure functions from verdicts to pages."""

from .html import page

__all__ = ["page"]
