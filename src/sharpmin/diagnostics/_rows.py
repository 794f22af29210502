"""What a watched run writes down: one row for the run, one a step, one a block of steps; JSON lines that survive a kill.

A `step` row has the scalars of one step; a `block` row their means over a block of steps, with the mean sketches. Sketches are
base64 of little-endian float32. A reader takes what is whole: a half-written last line is left out, and said.
"""

from __future__ import annotations

import base64
import json
import math
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from sharpmin.optim._scope import rank_and_world

from .sketch import BUCKETS

Row: TypeAlias = dict[str, Any]
Writer: TypeAlias = Callable[[Row], None]
VERSION = 1


def encode(sketch: Tensor) -> str:
    """256 numbers as text.

    >>> decode(encode(torch.tensor([1.0, -0.5])))
    tensor([ 1.0000, -0.5000], dtype=torch.float64)
    """
    return base64.b64encode(bytes(sketch.detach().to("cpu", torch.float32).contiguous().view(torch.uint8).tolist())).decode()


def decode(text: str) -> Tensor:
    """The inverse of `encode`, in float64."""
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.float32).double()


class JsonLines:
    """Appends rows to a file, each in one write that is flushed: readable while it grows, whole up to its last line.

    Args:
        path: the file; its folder must exist. An existing one is continued.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._file = self.path.open("a", encoding="utf-8")
        weakref.finalize(self, self._file.close)

    def __call__(self, row: Row) -> None:
        """Write one row."""
        self._file.write(json.dumps(_finite(row), allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def opened(to: str | Path | Writer | Sequence[str | Path | Writer] | None) -> list[Writer]:
    """A writer for each; for a path, on the first rank of a distributed run only, so that each row is written once.

    >>> len(opened([print, print]))
    2
    """
    first = rank_and_world()[0] == 0
    several = [] if to is None else [to] if isinstance(to, (str, Path)) or callable(to) else to
    out: list[Writer] = []
    for one in several:
        if not isinstance(one, (str, Path)):
            out.append(one)
        elif first:
            out.append(JsonLines(one))
    return out


def _finite(row: Mapping[str, Any]) -> Row:
    """JSON knows no nan and no inf: they become text."""
    return {k: repr(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}


_BACK = "the run came back to step"


class Log:
    """The rows of a run, sorted by kind, with remarks on what could not be read.

    Steps that come again, because the run was resumed from an earlier checkpoint or begun anew, replace those of before.

    Args:
        room: how many rows of each kind are kept, the newest; None for all.

    >>> log = Log()
    >>> for step in (0, 1, 2, 3, 4, 3, 4, 1):
    ...     log.add({"kind": "step", "step": step})
    >>> [row["step"] for row in log.steps], log.remarks
    ([0, 1], ['the run came back to step 1; the steps that it had taken from there are left out'])
    """

    def __init__(self, room: int | None = None):
        self.run: Row = {}
        self.steps: deque[Row] = deque(maxlen=room)
        self.blocks: deque[Row] = deque(maxlen=room)
        self.remarks: list[str] = []

    def add(self, row: Row) -> None:
        """Take one row."""
        if row["kind"] == "run":
            if self.run and _setting(row) != _setting(self.run) and (self.steps or self.blocks):
                self.remarks.append("the run was resumed with another setting; what was before is left out")
                self.steps.clear()
                self.blocks.clear()
            self.run = row
        elif row["kind"] == "step":
            again = _drop(self.steps, "step", row["step"])
            _drop(self.blocks, "last", row["step"])
            if again > 1:  # one: a step that was skipped comes again under its number
                self.remarks = [remark for remark in self.remarks if not remark.startswith(_BACK)]
                self.remarks.append(f"{_BACK} {row['step']:.0f}; the steps that it had taken from there are left out")
            self.steps.append(row)
        else:
            _drop(self.blocks, "last", row["first"])
            self.blocks.append(row)


def _drop(rows: deque[Row], key: str, number: float) -> int:
    """Let go of the rows from this number on; how many there were."""
    before = len(rows)
    while rows and rows[-1][key] >= number:
        rows.pop()
    return before - len(rows)


def _setting(row: Row) -> Row:
    return {k: v for k, v in row.items() if k != "time"}


def read(path: str | Path) -> Log:
    """The log of a file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if no line of it is a row of a watched run.
    """
    lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    return collect(lines, str(path))


def collect(lines: Iterable[str], name: str) -> Log:
    """The log of lines; foreign or broken ones are counted, not fatal."""
    log, broken = Log(), []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = {k: float(v) if v in ("nan", "inf", "-inf") else v for k, v in json.loads(line).items()}
            _demand_whole(row)
            log.add(row)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            broken.append(number)
    if not log.steps and not log.run:
        raise ValueError(f"{name}: no line is a row of a watched run; write one with sharpmin.watch(..., to={name!r})")
    if broken:
        shown = ", ".join(map(str, broken[:3])) + (", ..." if len(broken) > 3 else "")
        what = "1 line could not be read and is" if len(broken) == 1 else f"{len(broken)} lines could not be read and are"
        log.remarks.append(f"{what} left out (number {shown})")
    return log


_OPTIONAL = ("loss", "lag", "along", "steep", "curvature", "bounce", "gpg", "gx", "radius", "gain")
_MEANS = ("n", "steps", "gg", "dg", "dd", "norm_g", "norm_d")
_NEEDS = {"run": ("version",), "step": ("step", "gg", "dg", "dd"), "block": ("first", "last", *_MEANS)}
_SINGLE: dict[str, tuple[str, ...]] = {"run": (), "step": (*_OPTIONAL, "rho", "lr"), "block": _OPTIONAL}
"""By kind: the numbers that a row must have, and those that it may."""


def _demand_whole(row: Row) -> None:
    """Raise where a row lacks what its kind needs."""
    kind = row["kind"]
    for key in _NEEDS[kind]:
        float(row[key])
    if not all(isinstance(row.get(key, 0.0), (int, float)) for key in _SINGLE[kind]):
        raise TypeError("a number that is none")
    if kind == "block" and not _possible(row):
        raise ValueError("a block with numbers that no run writes")


def _possible(block: Row) -> bool:
    """Whether the counts are positive, rho and lr a finite first and last value, and the sketches of full length."""
    counts = all(0 < float(block[key]) < math.inf for key in ("n", "steps"))
    pairs = all(len(block[key]) == 2 and all(map(math.isfinite, block[key])) for key in ("rho", "lr"))
    present = ("g", "d", *(key for key in ("pd", "pg", "x") if key in block))
    return counts and pairs and all(len(decode(block[key])) == BUCKETS for key in present)
