"""The two exceptions of sharpmin; everything else is a `ValueError` (bad numbers) or a `TypeError` (wrong kinds)."""

from __future__ import annotations


class PhaseError(RuntimeError):
    """A call in the wrong phase of a SAM step, such as `step()` while the weights are perturbed."""


class MissingExtraError(ImportError):
    """A feature needs an optional dependency; the message holds the pip line that brings it.

    Args:
        module: what could not be imported.
        extra: of sharpmin, which brings it.
    """

    def __init__(self, module: str, extra: str):
        super().__init__(f"{module!r} is not installed; this part of sharpmin needs it: pip install 'sharpmin[{extra}]'")
        self.module = module
        self.extra = extra

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str]]:
        return type(self), (self.module, self.extra)
