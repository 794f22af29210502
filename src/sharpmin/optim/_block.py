"""`with opt.perturbed():` as a class, since an interrupt between a generator and the block that it opens would be lost."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .sam import SAM


class PerturbedBlock(AbstractContextManager[None]):
    """Perturb on entry; restore on exit, or give the step up if the block or the restore fails."""

    def __init__(self, opt: SAM, scaler: Any):
        self.opt = opt
        self.scaler = scaler

    def __enter__(self) -> None:
        self.opt.perturb(self.scaler)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is not None:
            self.opt.abort()
            return
        try:
            self.opt.restore()
        except BaseException:
            self.opt.abort()
            raise
