"""`with opt.perturbed():` as a class: with a generator, Ctrl-C just before the block would leave the weights at w + e."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from ._passes import Passes
from ._trip import abort


class PerturbedBlock(AbstractContextManager[None]):
    """Perturb on entry and restore on exit; abort the step if the block or the restore raises, or the block never runs."""

    def __init__(self, passes: Passes, perturb: Callable[[], None], restore: Callable[[], None]):
        self._passes, self._perturb, self._restore = passes, perturb, restore
        self._open, self._before = False, passes.state.trip

    def __enter__(self) -> None:
        self._before = self._passes.state.trip
        self._open = True
        self._perturb()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._open = False
        if kind is not None:
            abort(self._passes)
            return
        try:
            self._restore()
        except BaseException:
            abort(self._passes)
            raise

    def __del__(self) -> None:
        """Abort if the object is deleted while open: an interrupt came after `__enter__` and before the block's first line."""
        if self._open and self._passes.state.trip is not self._before:
            abort(self._passes)
