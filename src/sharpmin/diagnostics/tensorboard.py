"""Rows of a watched run as curves in TensorBoard."""

from __future__ import annotations

from typing import Any, Protocol

from ._run.rows import Row
from ._run.scalars import scalars


class Scalars(Protocol):
    """The method of a `torch.utils.tensorboard.SummaryWriter` that is used."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> Any:
        """Record one number."""


class TensorBoard:
    """Writes the scalars of each row to a `SummaryWriter`: `sm.watch(opt, to=["run.jsonl", TensorBoard(writer)])`.

    Missing and non-finite numbers are left out. The writer is not closed.

    Args:
        writer: a `torch.utils.tensorboard.SummaryWriter`, or anything with its `add_scalar`.
        prefix: of the tags, which are `prefix/step/loss` and so on.

    >>> class Printer:
    ...     def add_scalar(self, tag, value, step):
    ...         print(tag, value, step)
    >>> TensorBoard(Printer())({"kind": "step", "step": 3, "rho": 0.05, "gg": 4.0, "dd": 0.0, "dg": 0.0})
    sharpmin/step/rho 0.05 3
    sharpmin/step/gradient norm 2.0 3
    sharpmin/step/difference norm 0.0 3
    sharpmin/step/amplification 0.0 3
    sharpmin/step/cosine 1.0 3
    """

    def __init__(self, writer: Scalars, *, prefix: str = "sharpmin"):
        self.writer, self.prefix = writer, prefix

    def __repr__(self) -> str:
        return f"TensorBoard({type(self.writer).__name__}, prefix={self.prefix!r})"

    def __call__(self, row: Row) -> None:
        """Write the scalars of one row."""
        step, values = scalars(row, prefix=self.prefix)
        for tag, value in values.items():
            self.writer.add_scalar(tag, value, step)
