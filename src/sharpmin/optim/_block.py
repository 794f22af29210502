"""`with opt.perturbed():` as a class, since an interrupt between a generator and the block that it opens would be lost."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from ._passes import Passes
from ._trip import abort


class PerturbedBlock(AbstractContextManager[None]):
    """Perturb on entry; restore on exit, or give the step up if the block or the restore fails, or is never entered."""

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
        """An interrupt between the end of `__enter__` and the first line of the block drops it open."""
        if self._open and self._passes.state.trip is not self._before:
            abort(self._passes)
